/**
 * The stream that a xenstored saves its state in: docs/designs/xenstore-migration.md of Xen (headings in parentheses),
 * with the names of tools/xenstored/xenstore_state.h. The preamble is big-endian, everything behind it in the byte
 * order that the preamble names; the layouts stand for their offsets, and as they are for little-endian streams.
 */
import { type Layout, layout } from './layout.ts';

const xsStatePreamble = { ident: ['u8', 8], version: 'le32', flags: 'le32' } as const;
/** Start of the stream; `version` and `flags` are big-endian (Header). */
export const XS_STATE_PREAMBLE: Layout<typeof xsStatePreamble> = layout(16, xsStatePreamble);

/** `ident`, in ASCII (Header). */
export const XS_STATE_IDENT = 'xenstore';
/** Xen 4.15 to 4.20 (Header). */
export const XS_STATE_VERSION_1 = 1;
/** Adds WATCH_DATA_EXTENDED and the features of domains (Header). */
export const XS_STATE_VERSION_2 = 2;
/** Flag: the stream behind the preamble is big-endian (Header). */
export const XS_STATE_FLAG_BIG_ENDIAN = 1;

const xsStateRecordHeader = { type: 'le32', length: 'le32' } as const;
/** Start of each record; `length` bytes follow, and zeros to the next multiple of `XS_STATE_ALIGN` (Records). */
export const XS_STATE_RECORD_HEADER: Layout<typeof xsStateRecordHeader> = layout(8, xsStateRecordHeader);
/** Records start at multiples of this (Records). */
export const XS_STATE_ALIGN = 8;

/** Last record, without a body (END). */
export const XS_STATE_TYPE_END = 0;
/** File descriptors of the daemon (GLOBAL_DATA). */
export const XS_STATE_TYPE_GLOBAL = 1;
/** A connection (CONNECTION_DATA). */
export const XS_STATE_TYPE_CONN = 2;
/** A watch (WATCH_DATA). */
export const XS_STATE_TYPE_WATCH = 3;
/** An open transaction (TRANSACTION_DATA). */
export const XS_STATE_TYPE_TA = 4;
/** A node, committed or as a transaction has it (NODE_DATA). */
export const XS_STATE_TYPE_NODE = 5;
/** Quotas of all domains (GLOBAL_QUOTA_DATA). */
export const XS_STATE_TYPE_GLOB_QUOTA = 6;
/** Quotas and features of one domain (DOMAIN_DATA). */
export const XS_STATE_TYPE_DOMAIN = 7;
/** A watch with a depth, from version 2 on (WATCH_DATA_EXTENDED). */
export const XS_STATE_TYPE_WATCH_EXT = 8;

const xsStateGlobal = { socket_fd: 'le32', evtchn_fd: 'le32' } as const;
/** Body of GLOBAL_DATA: two's complement, -1 for none (GLOBAL_DATA). */
export const XS_STATE_GLOBAL: Layout<typeof xsStateGlobal> = layout(8, xsStateGlobal);
/** No file descriptor (GLOBAL_DATA). */
export const XS_STATE_NO_FD = 0xffff_ffff;

const xsStateNode = {
  conn_id: 'le32',
  ta_id: 'le32',
  path_len: 'le16',
  data_len: 'le16',
  ta_access: 'le16',
  perm_n: 'le16',
} as const;
/** Body of NODE_DATA; `perm_n` permissions, the path with its NUL and the value follow (NODE_DATA). */
export const XS_STATE_NODE: Layout<typeof xsStateNode> = layout(16, xsStateNode);

const xsStateNodePerm = { access: 'u8', flags: 'u8', domid: 'le16' } as const;
/** One permission: `access` is the ASCII letter of SET_PERMS (NODE_DATA). */
export const XS_STATE_NODE_PERM: Layout<typeof xsStateNodePerm> = layout(4, xsStateNodePerm);
/** Flag of a permission whose domain is gone (NODE_DATA). */
export const XS_STATE_NODE_PERM_IGNORE = 1;
