/**
 * Numbers of the Linux kernel's user interface for 64-bit little-endian machines that use asm-generic values
 * (x64, arm64, riscv64, loong64). Named as in the headers; sources are paths under include/uapi.
 */

// asm-generic/errno-base.h, asm-generic/errno.h
export const ENOENT = 2;
export const EINTR = 4;
export const EAGAIN = 11;
export const ENFILE = 23;
export const EMFILE = 24;
export const ECONNREFUSED = 111;

// linux/memfd.h, linux/fcntl.h, asm-generic/fcntl.h
export const MFD_CLOEXEC = 0x1;
export const MFD_ALLOW_SEALING = 0x2;
export const F_GETFL = 3;
export const F_SETFL = 4;
export const F_DUPFD_CLOEXEC = 1030;
export const F_ADD_SEALS = 1033;
export const F_GET_SEALS = 1034;
export const F_SEAL_SEAL = 0x1;
export const F_SEAL_SHRINK = 0x2;
export const F_SEAL_GROW = 0x4;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
export const EFD_NONBLOCK: number = O_NONBLOCK;
export const EFD_CLOEXEC: number = O_CLOEXEC;

// asm-generic/mman-common.h, linux/mman.h
export const PROT_READ = 0x1;
export const PROT_WRITE = 0x2;
export const MAP_SHARED = 0x1;
export const MAP_PRIVATE = 0x2;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_NORESERVE = 0x4000;
export const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

// asm-generic/poll.h; struct pollfd { int fd; short events; short revents; }
export const POLLIN = 0x1;
export const POLLNVAL = 0x20;
export const POLLFD_SIZE = 8;

// linux/socket.h, asm-generic/socket.h, linux/un.h
export const AF_UNIX = 1;
export const SOCK_STREAM = 1;
export const SOCK_NONBLOCK: number = O_NONBLOCK;
export const SOCK_CLOEXEC: number = O_CLOEXEC;
export const SOL_SOCKET = 1;
export const SO_PEERCRED = 17;
export const SCM_RIGHTS = 1;
/** net/scm.h SCM_MAX_FD: the kernel refuses more descriptors in one message. */
export const SCM_MAX_FD = 253;
export const MSG_CTRUNC = 0x8;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_CMSG_CLOEXEC = 0x40000000;
/** sizeof(sun_path), terminator included. */
export const UNIX_PATH_MAX = 108;

/** struct msghdr, LP64: name, namelen, iov, iovlen, control, controllen, flags. */
export const MSGHDR_IOV = 16;
export const MSGHDR_IOVLEN = 24;
export const MSGHDR_CONTROL = 32;
export const MSGHDR_CONTROLLEN = 40;
export const MSGHDR_FLAGS = 48;
export const MSGHDR_SIZE = 56;
/** struct iovec: base, len. */
export const IOVEC_SIZE = 16;
/** struct cmsghdr: len, level, type; data follows. */
export const CMSG_LEVEL = 8;
export const CMSG_TYPE = 12;
export const CMSG_DATA = 16;
/** struct ucred: pid, uid, gid. */
export const UCRED_SIZE = 12;
