/**
 * The xenstore wire protocol. Header: xen/io/xs_wire.h; documents: xenstore.txt, xenstore-ring.txt. Integers are in
 * the byte order of the machine, here little-endian. Things newer than Xen 4.17 are marked.
 */
import { type Layout, layout } from './layout.ts';

/** Administrative commands (xenstore.txt). */
export const XS_CONTROL = 0;
/** Names of the children (xenstore.txt). */
export const XS_DIRECTORY = 1;
/** Value of a node (xenstore.txt). */
export const XS_READ = 2;
/** Permissions of a node (xenstore.txt). */
export const XS_GET_PERMS = 3;
/** Watch a subtree (xenstore.txt). */
export const XS_WATCH = 4;
/** End a watch (xenstore.txt). */
export const XS_UNWATCH = 5;
/** Start a transaction (xenstore.txt). */
export const XS_TRANSACTION_START = 6;
/** Commit or abandon a transaction (xenstore.txt). */
export const XS_TRANSACTION_END = 7;
/** Connect a domain (xenstore.txt). */
export const XS_INTRODUCE = 8;
/** Disconnect a domain (xenstore.txt). */
export const XS_RELEASE = 9;
/** Home path of a domain (xenstore.txt). */
export const XS_GET_DOMAIN_PATH = 10;
/** Set the value of a node (xenstore.txt). */
export const XS_WRITE = 11;
/** Create a node if it is missing (xenstore.txt). */
export const XS_MKDIR = 12;
/** Remove a subtree (xenstore.txt). */
export const XS_RM = 13;
/** Set permissions (xenstore.txt). */
export const XS_SET_PERMS = 14;
/** Server to client: a watch fired (xenstore.txt). */
export const XS_WATCH_EVENT = 15;
/** Server to client: the request failed (xenstore.txt). */
export const XS_ERROR = 16;
/** Whether a domain is connected (xenstore.txt). */
export const XS_IS_DOMAIN_INTRODUCED = 17;
/** A domain resumes (xenstore.txt). */
export const XS_RESUME = 18;
/** Give a domain the rights of another (xenstore.txt). */
export const XS_SET_TARGET = 19;
/** Removed from the protocol; the number stays taken (xs_wire.h). */
export const XS_RESTRICT = 20;
/** Drop all watches and transactions of the connection (xenstore.txt). */
export const XS_RESET_WATCHES = 21;
/** Names of the children, in parts (xenstore.txt). */
export const XS_DIRECTORY_PART = 22;
/** Features of the server, or of a domain (xenstore.txt, newer than 4.17). */
export const XS_GET_FEATURE = 23;
/** Set the features of a domain (xenstore.txt, newer than 4.17). */
export const XS_SET_FEATURE = 24;
/** A quota (xenstore.txt, newer than 4.17). */
export const XS_GET_QUOTA = 25;
/** Set a quota (xenstore.txt, newer than 4.17). */
export const XS_SET_QUOTA = 26;
/** Never a valid type (xs_wire.h). */
export const XS_INVALID = 0xffff;

const xsdSockmsg = { type: 'le32', req_id: 'le32', tx_id: 'le32', len: 'le32' } as const;
/** xs_wire.h, struct xsd_sockmsg: the header; `len` bytes follow. */
export const XSD_SOCKMSG: Layout<typeof xsdSockmsg> = layout(16, xsdSockmsg);

/** Most bytes after a header (xs_wire.h). */
export const XENSTORE_PAYLOAD_MAX = 4096;
/** Most bytes of an absolute path (xs_wire.h). */
export const XENSTORE_ABS_PATH_MAX = 3072;
/** Most bytes of a relative path (xs_wire.h). */
export const XENSTORE_REL_PATH_MAX = 2048;

/** First string of a watch event: the path (xs_wire.h). */
export const XS_WATCH_PATH = 0;
/** Second string of a watch event: the token (xs_wire.h). */
export const XS_WATCH_TOKEN = 1;

/** Error names in the order of `xsd_errors`; an unknown error is sent as the first (xs_wire.h). */
export const XSD_ERRORS = [
  'EINVAL',
  'EACCES',
  'EEXIST',
  'EISDIR',
  'ENOENT',
  'ENOMEM',
  'ENOSPC',
  'EIO',
  'ENOTEMPTY',
  'ENOSYS',
  'EROFS',
  'EBUSY',
  'EAGAIN',
  'EISCONN',
  'E2BIG',
  'EPERM',
] as const;

/** Name of an error that an XS_ERROR reply carries. oxenstored also sends `EQUOTA`, which is not in the header. */
export type XsdErrorName = (typeof XSD_ERRORS)[number];

/** Permission letter: no access (xenstore.txt). */
export const XS_PERM_NONE_LETTER = 'n';
/** Permission letter: read (xenstore.txt). */
export const XS_PERM_READ_LETTER = 'r';
/** Permission letter: write (xenstore.txt). */
export const XS_PERM_WRITE_LETTER = 'w';
/** Permission letter: read and write (xenstore.txt). */
export const XS_PERM_BOTH_LETTER = 'b';

/** Argument of TRANSACTION_END that commits; answer "yes" of IS_DOMAIN_INTRODUCED (xenstore.txt). */
export const XS_TRUE = 'T';
/** Argument of TRANSACTION_END that abandons; answer "no" of IS_DOMAIN_INTRODUCED (xenstore.txt). */
export const XS_FALSE = 'F';
/** Payload, with its NUL, of a reply that has nothing else to say (xenstore.txt). */
export const XS_OK = 'OK';
/** Watchable name: a domain was introduced (xenstore.txt). */
export const XS_INTRODUCE_DOMAIN = '@introduceDomain';
/** Watchable name: a domain was released, shut down or died (xenstore.txt). */
export const XS_RELEASE_DOMAIN = '@releaseDomain';

/** Bytes of either ring (xs_wire.h). */
export const XENSTORE_RING_SIZE = 1024;
/** `index & XENSTORE_RING_MASK` is the place in a ring (xs_wire.h, MASK_XENSTORE_IDX). */
export const XENSTORE_RING_MASK: number = XENSTORE_RING_SIZE - 1;

const xenstoreDomainInterface = {
  req: ['u8', 1024],
  rsp: ['u8', 1024],
  req_cons: 'le32',
  req_prod: 'le32',
  rsp_cons: 'le32',
  rsp_prod: 'le32',
  server_features: 'le32',
  connection: 'le32',
  error: 'le32',
  evtchn_port: 'le32',
} as const;
/**
 * xs_wire.h, struct xenstore_domain_interface: the ring page (xenstore-ring.txt). Indices run freely and must be
 * stored as single 32-bit words. `evtchn_port` is newer than 4.17.
 */
export const XENSTORE_DOMAIN_INTERFACE: Layout<typeof xenstoreDomainInterface> = layout(
  2080,
  xenstoreDomainInterface,
);

/** server_features: the ring can be reconnected (xs_wire.h). */
export const XENSTORE_SERVER_FEATURE_RECONNECTION = 1;
/** server_features: the error field is there (xs_wire.h). */
export const XENSTORE_SERVER_FEATURE_ERROR = 2;
/** server_features: watches have a depth (xs_wire.h, newer than 4.17). */
export const XENSTORE_SERVER_FEATURE_WATCHDEPTH = 4;
/** server_features: DOMID_ANY in permissions (xs_wire.h, newer than 4.17). */
export const XENSTORE_SERVER_FEATURE_DOMID_ANY = 8;

/** connection: in use (xs_wire.h). */
export const XENSTORE_CONNECTED = 0;
/** connection: the domain asks to reconnect (xs_wire.h). */
export const XENSTORE_RECONNECT = 1;

/** error: none (xs_wire.h). */
export const XENSTORE_ERROR_NONE = 0;
/** error: communication problem (xs_wire.h). */
export const XENSTORE_ERROR_COMM = 1;
/** error: invalid ring index (xs_wire.h). */
export const XENSTORE_ERROR_RINGIDX = 2;
/** error: protocol violation, payload too long (xs_wire.h). */
export const XENSTORE_ERROR_PROTO = 3;
