/** Xen: what every hypercall shares. Headers: xen/xen.h, xen/errno.h, xen/arch-x86/xen.h. */
import { type DomId, domId } from './brands.ts';

/** Bytes of a page, and of a granted frame (Xen: XC_PAGE_SIZE, XEN_PAGE_SIZE). */
export const XEN_PAGE_SIZE = 4096;
/** log2 of `XEN_PAGE_SIZE`. */
export const XEN_PAGE_SHIFT = 12;
/** Mask of the offset within a page. */
export const XEN_PAGE_OFFSET_MASK: number = XEN_PAGE_SIZE - 1;

/** Lowest id that no ordinary domain has (xen.h). */
export const DOMID_FIRST_RESERVED: DomId = domId(0x7ff0);
/** The calling domain (xen.h). */
export const DOMID_SELF: DomId = domId(0x7ff0);
/** Owner of I/O memory (xen.h). */
export const DOMID_IO: DomId = domId(0x7ff1);
/** Owner of the hypervisor's shared heap (xen.h). */
export const DOMID_XEN: DomId = domId(0x7ff2);
/** Owner of sharable pages (xen.h). */
export const DOMID_COW: DomId = domId(0x7ff3);
/** No domain (xen.h). */
export const DOMID_INVALID: DomId = domId(0x7ff4);
/** Any domain, in xenstore permissions (xen.h, newer than 4.17). */
export const DOMID_ANY: DomId = domId(0x7ff5);
/** The idle domain (xen.h). */
export const DOMID_IDLE: DomId = domId(0x7fff);
/** Mask of valid domain ids (xen.h). */
export const DOMID_MASK = 0x7fff;

/** vCPUs that have their `vcpu_info` in the shared info page on x86 (arch-x86/xen.h). */
export const XEN_LEGACY_MAX_VCPUS = 32;

/** Hypercall: grant_table_op (xen.h). */
export const __HYPERVISOR_grant_table_op = 20;
/** Hypercall: event_channel_op (xen.h). */
export const __HYPERVISOR_event_channel_op = 32;

/** Error numbers of hypercalls (errno.h, XEN_ERRNO): returned negated. They are those of x86 Linux. */
export const XEN_ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  ENOEXEC: 8,
  EBADF: 9,
  ECHILD: 10,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  EDOM: 33,
  ERANGE: 34,
  EDEADLK: 35,
  ENAMETOOLONG: 36,
  ENOLCK: 37,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ENODATA: 61,
  ETIME: 62,
  EBADMSG: 74,
  EOVERFLOW: 75,
  EILSEQ: 84,
  ENOTSOCK: 88,
  EMSGSIZE: 90,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENOBUFS: 105,
  EISCONN: 106,
  ENOTCONN: 107,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
} as const;

/** Name of a hypercall error, as in `EventChannelError.code`. */
export type XenErrno = keyof typeof XEN_ERRNO;
