/** Xen grant tables. Header: xen/grant_table.h. Multi-byte fields are little-endian on x86 and arm64. */
import { type Layout, layout } from './layout.ts';
import { XEN_PAGE_SIZE } from './xen.ts';

/** Entry type: none (grant_table.h). */
export const GTF_invalid = 0;
/** Entry type: the domain may map or copy the frame (grant_table.h). */
export const GTF_permit_access = 1;
/** Entry type: the domain may transfer a page into it (grant_table.h). */
export const GTF_accept_transfer = 2;
/** Entry type, v2: the domain may use a grant that another domain gave (grant_table.h). */
export const GTF_transitive = 3;
/** Mask of the type (grant_table.h). */
export const GTF_type_mask = 3;
/** Granter: no write access (grant_table.h). */
export const GTF_readonly = 0x004;
/** Hypervisor: mapped or read (grant_table.h). */
export const GTF_reading = 0x008;
/** Hypervisor: mapped for writing (grant_table.h). */
export const GTF_writing = 0x010;
/** Granter: cache attribute (grant_table.h). */
export const GTF_PWT = 0x020;
/** Granter: cache attribute (grant_table.h). */
export const GTF_PCD = 0x040;
/** Granter: cache attribute (grant_table.h). */
export const GTF_PAT = 0x080;
/** Granter, v2: only part of the frame, for copies (grant_table.h). */
export const GTF_sub_page = 0x100;
/** Hypervisor, for transfers: a page is on its way (grant_table.h). */
export const GTF_transfer_committed = 0x004;
/** Hypervisor, for transfers: the page has arrived (grant_table.h). */
export const GTF_transfer_completed = 0x008;

/** References that set_version preserves (grant_table.h). */
export const GNTTAB_NR_RESERVED_ENTRIES = 8;
/** Reference of the console ring page (grant_table.h). */
export const GNTTAB_RESERVED_CONSOLE = 0;
/** Reference of the xenstore ring page (grant_table.h). */
export const GNTTAB_RESERVED_XENSTORE = 1;

/** Grant frames that Xen gives a domain at most, by default (Xen command line, gnttab_max_frames). */
export const GNTTAB_DEFAULT_MAX_FRAMES = 64;
/** Maptrack frames that Xen gives a domain at most, by default (Xen command line, gnttab_max_maptrack_frames). */
export const GNTTAB_DEFAULT_MAX_MAPTRACK_FRAMES = 1024;
/** Mappings that a maptrack frame holds (Xen, common/grant_table.c: PAGE_SIZE / sizeof(struct grant_mapping)). */
export const GNTTAB_MAPTRACK_PER_PAGE = 256;
/** Grant frames of a new domain (Xen, INITIAL_NR_GRANT_FRAMES). */
export const GNTTAB_INITIAL_NR_FRAMES = 1;

const grantEntryV1 = { flags: 'le16', domid: 'le16', frame: 'le32' } as const;
/** grant_table.h, struct grant_entry_v1. Flags and domid form the 32-bit word that is compared and exchanged. */
export const GRANT_ENTRY_V1: Layout<typeof grantEntryV1> = layout(8, grantEntryV1);
/** Version 1 entries of a grant frame. */
export const GRANT_ENTRIES_PER_PAGE_V1: number = XEN_PAGE_SIZE / GRANT_ENTRY_V1.size;

const grantEntryV2FullPage = { flags: 'le16', domid: 'le16', pad0: 'le32', frame: 'le64' } as const;
/** grant_table.h, union grant_entry_v2, member full_page. */
export const GRANT_ENTRY_V2_FULL_PAGE: Layout<typeof grantEntryV2FullPage> = layout(16, grantEntryV2FullPage);
const grantEntryV2SubPage = {
  flags: 'le16',
  domid: 'le16',
  page_off: 'le16',
  length: 'le16',
  frame: 'le64',
} as const;
/** grant_table.h, union grant_entry_v2, member sub_page (GTF_sub_page). */
export const GRANT_ENTRY_V2_SUB_PAGE: Layout<typeof grantEntryV2SubPage> = layout(16, grantEntryV2SubPage);
const grantEntryV2Transitive = {
  flags: 'le16',
  domid: 'le16',
  trans_domid: 'le16',
  pad0: 'le16',
  gref: 'le32',
  spacer: 'le32',
} as const;
/** grant_table.h, union grant_entry_v2, member transitive (GTF_transitive). */
export const GRANT_ENTRY_V2_TRANSITIVE: Layout<typeof grantEntryV2Transitive> = layout(
  16,
  grantEntryV2Transitive,
);
/** Version 2 entries of a grant frame. */
export const GRANT_ENTRIES_PER_PAGE_V2: number = XEN_PAGE_SIZE / GRANT_ENTRY_V2_FULL_PAGE.size;
/** Bytes of a status word of version 2 (grant_table.h, grant_status_t); reading and writing bits stand there. */
export const GRANT_STATUS_SIZE = 2;
/** Status words of a status frame. */
export const GRANT_STATUSES_PER_PAGE: number = XEN_PAGE_SIZE / GRANT_STATUS_SIZE;

/** Map a grant (grant_table.h). */
export const GNTTABOP_map_grant_ref = 0;
/** Unmap one (grant_table.h). */
export const GNTTABOP_unmap_grant_ref = 1;
/** Make the table of a domain at least so large, return its frames (grant_table.h). */
export const GNTTABOP_setup_table = 2;
/** Print the table to the console (grant_table.h). */
export const GNTTABOP_dump_table = 3;
/** Transfer a page (grant_table.h). */
export const GNTTABOP_transfer = 4;
/** Copy bytes between grants or own frames (grant_table.h). */
export const GNTTABOP_copy = 5;
/** Ask for the current and the largest size (grant_table.h). */
export const GNTTABOP_query_size = 6;
/** Unmap, putting another page in the place (grant_table.h). */
export const GNTTABOP_unmap_and_replace = 7;
/** Choose the version of the own table (grant_table.h). */
export const GNTTABOP_set_version = 8;
/** Return the status frames of a version 2 table (grant_table.h). */
export const GNTTABOP_get_status_frames = 9;
/** Ask for the version of a domain's table (grant_table.h). */
export const GNTTABOP_get_version = 10;
/** Swap two entries (grant_table.h). */
export const GNTTABOP_swap_grant_ref = 11;
/** Cache maintenance on a granted frame (grant_table.h). */
export const GNTTABOP_cache_flush = 12;

/** Map flag: for I/O devices (grant_table.h). */
export const GNTMAP_device_map = 0x01;
/** Map flag: for CPUs (grant_table.h). */
export const GNTMAP_host_map = 0x02;
/** Map flag: read-only (grant_table.h). */
export const GNTMAP_readonly = 0x04;
/** Map flag: also for the application (grant_table.h). */
export const GNTMAP_application_map = 0x08;
/** Map flag: host_addr is that of a page table entry (grant_table.h). */
export const GNTMAP_contains_pte = 0x10;
/** Map flags left to the guest (grant_table.h). */
export const GNTMAP_guest_avail_mask = 0xffff_0000;

/** Copy flag: the source is a grant reference (grant_table.h). */
export const GNTCOPY_source_gref = 1;
/** Copy flag: the destination is a grant reference (grant_table.h). */
export const GNTCOPY_dest_gref = 2;

/** Done (grant_table.h). */
export const GNTST_okay = 0;
/** Undefined error (grant_table.h). */
export const GNTST_general_error = -1;
/** Unrecognised domain id (grant_table.h). */
export const GNTST_bad_domain = -2;
/** Unrecognised or inappropriate grant reference (grant_table.h). */
export const GNTST_bad_gntref = -3;
/** Unrecognised or inappropriate mapping handle (grant_table.h). */
export const GNTST_bad_handle = -4;
/** Inappropriate virtual address to map (grant_table.h). */
export const GNTST_bad_virt_addr = -5;
/** Inappropriate device address to unmap (grant_table.h). */
export const GNTST_bad_dev_addr = -6;
/** Out of space in the I/O MMU (grant_table.h). */
export const GNTST_no_device_space = -7;
/** Not enough privilege (grant_table.h). */
export const GNTST_permission_denied = -8;
/** Page invalid for the operation (grant_table.h). */
export const GNTST_bad_page = -9;
/** Copy arguments cross a page boundary (grant_table.h). */
export const GNTST_bad_copy_arg = -10;
/** Address of a transferred page too large (grant_table.h). */
export const GNTST_address_too_big = -11;
/** Not done; try again (grant_table.h). */
export const GNTST_eagain = -12;
/** Out of handles or the like (grant_table.h). */
export const GNTST_no_space = -13;

/** Names of the status codes: that of `status` is `GNTST_NAMES[-status]`. */
export const GNTST_NAMES = [
  'GNTST_okay',
  'GNTST_general_error',
  'GNTST_bad_domain',
  'GNTST_bad_gntref',
  'GNTST_bad_handle',
  'GNTST_bad_virt_addr',
  'GNTST_bad_dev_addr',
  'GNTST_no_device_space',
  'GNTST_permission_denied',
  'GNTST_bad_page',
  'GNTST_bad_copy_arg',
  'GNTST_address_too_big',
  'GNTST_eagain',
  'GNTST_no_space',
] as const;

/** Name of a status code, as in `GrantError.code`. */
export type GntstName = (typeof GNTST_NAMES)[number];

const gnttabMapGrantRef = {
  host_addr: 'le64',
  flags: 'le32',
  ref: 'le32',
  dom: 'le16',
  status: 'sle16',
  handle: 'le32',
  dev_bus_addr: 'le64',
} as const;
/** grant_table.h, struct gnttab_map_grant_ref; results from `status` on. */
export const GNTTAB_MAP_GRANT_REF: Layout<typeof gnttabMapGrantRef> = layout(32, gnttabMapGrantRef);
const gnttabUnmapGrantRef = {
  host_addr: 'le64',
  dev_bus_addr: 'le64',
  handle: 'le32',
  status: 'sle16',
} as const;
/** grant_table.h, struct gnttab_unmap_grant_ref; `status` is the result. */
export const GNTTAB_UNMAP_GRANT_REF: Layout<typeof gnttabUnmapGrantRef> = layout(24, gnttabUnmapGrantRef);
const gnttabCopy = {
  source_u: 'le64',
  source_domid: 'le16',
  source_offset: 'le16',
  source_pad: 'le32',
  dest_u: 'le64',
  dest_domid: 'le16',
  dest_offset: 'le16',
  dest_pad: 'le32',
  len: 'le16',
  flags: 'le16',
  status: 'sle16',
} as const;
/**
 * grant_table.h, struct gnttab_copy, its pointers flattened; `status` is the result. `…_u` is a 64-bit frame number, or,
 * with GNTCOPY_…_gref, a reference in its low 32 bits (the high ones then mean nothing).
 */
export const GNTTAB_COPY: Layout<typeof gnttabCopy> = layout(40, gnttabCopy);
const gnttabQuerySize = { dom: 'le16', nr_frames: 'le32', max_nr_frames: 'le32', status: 'sle16' } as const;
/** grant_table.h, struct gnttab_query_size; results from `nr_frames` on. */
export const GNTTAB_QUERY_SIZE: Layout<typeof gnttabQuerySize> = layout(16, gnttabQuerySize);
const gnttabSetVersion = { version: 'le32' } as const;
/** grant_table.h, struct gnttab_set_version. */
export const GNTTAB_SET_VERSION: Layout<typeof gnttabSetVersion> = layout(4, gnttabSetVersion);

/**
 * Device addresses that stand for grants (Linux, drivers/xen/grant-dma-ops.c): this bit, the reference shifted by
 * `XEN_PAGE_SHIFT`, the offset in the page. The bit number is of the 64-bit address.
 */
export const XEN_GRANT_DMA_ADDR_BIT = 63;
/** The same bit in the high 32-bit half of an address. */
export const XEN_GRANT_DMA_ADDR_OFF_HIGH = 0x8000_0000;
/** The same bit as a mask of the whole address (Linux: XEN_GRANT_DMA_ADDR_OFF). */
export const XEN_GRANT_DMA_ADDR_OFF = 0x8000_0000_0000_0000n;
