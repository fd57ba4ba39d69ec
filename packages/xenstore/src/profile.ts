import { XENSTORE_PAYLOAD_MAX, XENSTORE_REL_PATH_MAX } from '@virtlab/abi/xs-wire';
import type { XenstoreErrorCode } from './errors.ts';

/** Limits of unprivileged domains. All can be changed while running, by CONTROL `quota set`. */
export interface XenstoreQuotas {
  /** Nodes a domain may own. */
  nodes: number;
  /** Watches a domain may hold beyond this many are refused. */
  watches: number;
  /** A domain that has more than this many open transactions may start no other. */
  transactions: number;
  /** Requests whose reply, or events caused by them, are not yet delivered; then its ring is not read. */
  outstanding: number;
  /** Nodes that one transaction may touch. */
  transactionNodes: number;
  /** Bytes of nodes, watches and undelivered output. At the hard limit writes fail and the ring is not read. */
  memorySize: number;
  softMemorySize: number;
  /** Bytes of one node with its permissions and the names of its children; must stay below. */
  nodeSize: number;
  /** Bytes of a path behind `/local/domain/<domid>/`. */
  pathSize: number;
  /** Entries of a permission list. */
  permissions: number;
}

/** Behaviour in which the daemons differ, as data: one object per implementation and version. */
export interface XenstoreProfile {
  readonly name: string;
  /** Larger request payloads end the connection. */
  readonly payloadSizeMax: number;
  readonly quotas: Readonly<XenstoreQuotas>;
  /** Answer when the watch quota is exceeded; the other quotas say ENOSPC. */
  readonly watchQuotaError: XenstoreErrorCode;
  /** Bytes that a node costs beside path, value and children's names, and per permission entry. */
  readonly nodeOverheadSize: number;
  readonly permissionSize: number;
  /**
   * Answers to a single-string argument that is not exactly one NUL-terminated string. C 4.17 answers with
   * whatever `errno` happens to hold; these are the values that were observed.
   */
  readonly badString: {
    readonly emptyPayload: XenstoreErrorCode;
    readonly reading: XenstoreErrorCode;
    /** MKDIR and RM, which take ENOENT for "not there yet" and then find no name. */
    readonly changing: XenstoreErrorCode;
  };
  /** Nodes that exist from the start. */
  readonly initialNodes: readonly string[];
  /** `server_features` of the ring page. */
  readonly serverFeatures: number;
}

/** The C daemon of Xen 4.17, which Debian 12 ships. */
export const PROFILE_C_4_17: XenstoreProfile = Object.freeze({
  name: 'c-4.17',
  payloadSizeMax: XENSTORE_PAYLOAD_MAX,
  quotas: Object.freeze({
    nodes: 1000,
    watches: 128,
    transactions: 10,
    outstanding: 20,
    transactionNodes: 1024,
    memorySize: 2.5 * 2 ** 20,
    softMemorySize: 2 * 2 ** 20,
    nodeSize: 2048,
    pathSize: XENSTORE_REL_PATH_MAX,
    permissions: 5,
  }),
  watchQuotaError: 'E2BIG',
  nodeOverheadSize: 24,
  permissionSize: 8,
  badString: Object.freeze({ emptyPayload: 'EINVAL', reading: 'ENOENT', changing: 'ENOMEM' }),
  initialNodes: Object.freeze(['/tool', '/tool/xenstored']),
  serverFeatures: 0,
});
