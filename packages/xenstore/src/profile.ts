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
  /** Requests that one transaction may consist of. */
  transactionRequests: number;
  /** Events that may wait on a connection, and again for each of its watches. */
  watchEvents: number;
}

/** Behaviour in which the daemons differ, as data: one object per implementation and version. */
export interface XenstoreProfile {
  readonly name: string;
  /** What does the requests: the C daemon's nodes with generations, or the trees of the daemon in OCaml. */
  readonly engine: 'c' | 'oxenstored';
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
    /** To an empty payload, where that differs. */
    readonly emptyPayload?: XenstoreErrorCode;
    readonly reading: XenstoreErrorCode;
    /** MKDIR and RM, which take ENOENT for "not there yet" and then find no name. */
    readonly changing: XenstoreErrorCode;
  };
  /** Answer when a domain has too many transactions open. */
  readonly transactionQuotaError: XenstoreErrorCode;
  /** Nodes that exist from the start. */
  readonly initialNodes: readonly string[];
  /** Values of those that have one. */
  readonly initialValues: Readonly<Record<string, string>>;
  /**
   * What becomes of a request with more payload than `payloadSizeMax`: it ends the connection, or only its first so many
   * bytes are its payload and the rest is taken for what follows.
   */
  readonly longRequests: 'disconnect' | 'truncate';
  /** Whether a request without payload is seen on a socket only when more bytes have arrived behind it. */
  readonly emptyRequestsWait: boolean;
  /** Which replies and events over 4096 bytes are E2BIG, or not sent: all, or those on rings. */
  readonly largeReplies: 'refused' | 'refused-on-rings';
  /** Whether an event is dropped while an identical one is queued for the same connection. */
  readonly mergesEvents: boolean;
  /** Whether WATCH and UNWATCH are answered, and judged, outside of the transaction that they name. */
  readonly watchesLeaveTransactions: boolean;
  /** `server_features` of the ring page, and what GET_FEATURE says where it exists. */
  readonly serverFeatures: number;
  /** Whether a port in the ring page (`evtchn_port`) goes before the one that INTRODUCE names. */
  readonly usesPagePort: boolean;
  /** Whether INTRODUCE takes a ring as it is, with what is in it, and for a known domain only binds its port anew. */
  readonly ringSurvivesIntroduce: boolean;
  /** When the daemon writes the ring page's `error` field. */
  readonly ringErrors: 'always' | 'if-offered';
  /** Types from this number on are ENOSYS. */
  readonly operationCount: number;
  /** A domain may have as many as its quota says plus this: the sources check now with `>`, now with `>=`. */
  readonly quotaSlack: Readonly<Record<CountedQuota, number>>;
  /** Whether a quota of 0 is none at all; for `memorySize` it always is. */
  readonly zeroQuotaDisables: boolean;
  /** Whether every domain has quotas of its own, copied from the common ones when it is first heard of. */
  readonly quotasPerDomain: boolean;
  /**
   * When new nodes count: each as it is written, or all at the reply, so that one request may create more than the
   * quota has room for; then the end of a transaction does not mind domains that own fewer nodes than before.
   */
  readonly nodeAccounting: 'at-write' | 'at-reply';
  /** Whose memory quota a write outside transactions must respect: the owner's, whoever writes, or the writer's. */
  readonly memoryQuotaOf: 'owner' | 'writer';
  /** Whom `pathSize` limits. */
  readonly pathLimit: 'everybody' | 'guests';
  /** What `@introduceDomain` and `@releaseDomain` are: permission lists only, or nodes with permissions. */
  readonly specialNames: 'permissions' | 'nodes';
  /** Numbers of domains in requests: `atoi`, or decimal digits up to 65535 and nothing else. */
  readonly domidSyntax: 'atoi' | 'decimal';
  /** Whether guests that write while others have transactions open are slowed down (`wrl_*`). */
  readonly limitsWriteRate: boolean;
  /** Milliseconds that an event waits for a guest to fetch it; 0: for ever. */
  readonly watchEventTimeoutMs: number;
  /** What becomes of permission entries of a domain that is gone. */
  readonly deadPermissions: 'ignored' | 'removed';
  /** Whether sockets use up watches, transactions and outstanding requests of domain 0. */
  readonly socketsCount: boolean;
}

/** Quotas that count things. */
export type CountedQuota =
  | 'nodes'
  | 'watches'
  | 'transactions'
  | 'transactionNodes'
  | 'pathSize'
  | 'permissions';
