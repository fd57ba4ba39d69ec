import type { DomId, EvtchnPort } from '@virtlab/abi/brands';

/**
 * What users of xenstore program against. The wire, the tree and the transports are elsewhere; code that
 * drives devices through xenstore needs only these types.
 */

/** One entry of a permission list, `<n|r|w|b><domid>` on the wire (xenstore.txt, "Permissions"). */
export interface XenstorePermission {
  /** Any 32-bit number is legal on the wire and echoed, so not a `DomId`; a `DomId` fits. */
  readonly domid: number;
  /** none, read, write, both. In entry 0 (the owner's) it is the default for domains not listed. */
  readonly access: 'n' | 'r' | 'w' | 'b';
}

/** One queued `XS_WATCH_EVENT`. `path` is relative when the watch was registered with a relative path. */
export interface XenstoreWatchEvent {
  readonly path: string;
  readonly token: string;
  /**
   * So many paths changed before the iteration took them that only this is left: `path` is the watched one, and
   * everything below may have changed.
   */
  readonly isOverflow?: true;
}

/**
 * A live registration. The first event, for the registered path itself, arrives without any change having
 * happened, so a handler never needs a separate first look. Events arrive in the order the store made them.
 * Iterating yields the same events that a handler would get, from the moment of registration, and ends when
 * the watch or its connection is closed. A watch has either a handler or one iteration.
 */
export interface XenstoreWatch extends AsyncIterable<XenstoreWatchEvent>, AsyncDisposable {
  readonly path: string;
  readonly token: string;
  /** Unregisters. No handler call happens after `close` was called. Idempotent. */
  close(): Promise<void>;
}

/** What can be done both directly and inside a transaction. All rejections are `XenstoreError`. */
export interface XenstoreAccess {
  /** The value; a fresh copy owned by the caller. ENOENT when missing. */
  read(path: string): Promise<Uint8Array>;
  /** The value as UTF-8 text. ENOENT when missing. */
  readText(path: string): Promise<string>;
  /** Creates the node and missing parents, or replaces the value. Text is written as UTF-8, no NUL added. */
  write(path: string, value: string | Uint8Array): Promise<void>;
  /** Creates an empty node and missing parents; an existing node keeps its value. */
  mkdir(path: string): Promise<void>;
  /** Removes the node and everything below. Succeeds for a missing node whose parent exists. */
  rm(path: string): Promise<void>;
  /** Names of the children, in the order of the daemon (creation order here). ENOENT when missing. */
  directory(path: string): Promise<string[]>;
  /** Whether the node can be read: false for ENOENT, and for EACCES, which may hide that it is missing. */
  exists(path: string): Promise<boolean>;
  getPermissions(path: string): Promise<XenstorePermission[]>;
  /** Replaces the list; entry 0 names the owner. */
  setPermissions(path: string, permissions: readonly XenstorePermission[]): Promise<void>;
}

/** The same operations under one transaction id. Every call rejects with EINVAL once it has ended. */
export interface XenstoreTransaction extends XenstoreAccess {
  /** The id on the wire, u32, never 0. */
  readonly id: number;
}

export interface XenstoreTransactionOptions {
  /** How often a transaction may be repeated after EAGAIN. Default: no limit, as Linux and libxl do. */
  readonly retries?: number;
  /**
   * Milliseconds to wait before attempt 1, 2, 3 … after the first failed. Default: none, as Linux and libxl do; who
   * competes with many others may want to draw lots here.
   */
  readonly backoffMs?: (attempt: number) => number;
  /**
   * Abandons the transaction and ends the loop, rejecting with the signal's reason: at once, also while `body` runs,
   * whose further calls then reject. A commit that is under way may still succeed.
   */
  readonly signal?: AbortSignal;
}

export interface XenstoreWatchOptions {
  /** Default: a token that is unique on this connection. The same (path, token) twice is EEXIST. */
  readonly token?: string;
  /**
   * How many levels below `path` are of interest: 0 for the node alone. Only a daemon newer than Xen 4.17 knows it;
   * others reject with EINVAL.
   */
  readonly depth?: number;
  /** Closes the watch, which ends its iteration. Rejects with the signal's reason if it aborts before. */
  readonly signal?: AbortSignal;
  /** Events that an iteration may leave untaken; then they become one, see `isOverflow`. Default 16384. */
  readonly queueCount?: number;
}

/**
 * A connection to a xenstored. Requests are pipelined: calls may overlap, are executed in the order of the
 * calls, and settle in that order. Events caused by an own request are handed over before its promise settles.
 * When the connection is lost, everything pending and everything later rejects with `XenstoreError` EIO.
 */
export interface Xenstore extends XenstoreAccess, AsyncDisposable {
  /**
   * Runs `body` in a transaction and commits it; on EAGAIN runs `body` again in a new one. When `body` rejects
   * the transaction is abandoned and the rejection passed on. `body` must use only the `tx` it is given.
   */
  transaction<T>(
    body: (tx: XenstoreTransaction) => Promise<T>,
    options?: XenstoreTransactionOptions,
  ): Promise<T>;
  /** Registers a watch; resolves once the daemon accepted it. Also `@introduceDomain` and `@releaseDomain`. */
  watch(
    path: string,
    handler?: (event: XenstoreWatchEvent) => void,
    options?: XenstoreWatchOptions,
  ): Promise<XenstoreWatch>;
  /** Privileged: the daemon maps the domain's ring page and binds its event channel. */
  introduce(domid: DomId, gfn: number, port: EvtchnPort): Promise<void>;
  /** Privileged: forgets the domain, with its nodes, watches and transactions; fires `@releaseDomain`. */
  release(domid: DomId): Promise<void>;
  isDomainIntroduced(domid: DomId): Promise<boolean>;
  /** `/local/domain/<domid>`, whether or not the domain exists. */
  getDomainPath(domid: DomId): Promise<string>;
  /** Drops all watches and transactions of this connection. Live `XenstoreWatch` objects end. */
  resetWatches(): Promise<void>;
  /** Closes the connection. Pending requests reject, watches end. Idempotent. */
  close(): void;
  /** Resolves when the connection ended, with the reason; undefined after an own `close()`. */
  readonly closed: Promise<XenstoreCloseReason | undefined>;
}

/** Why a connection ended, in words for a log line. */
export type XenstoreCloseReason = string;

export interface ByteStreamHandler {
  /** Bytes in order, any fragmentation. Valid only during the call: copy what is kept. */
  onData(bytes: Uint8Array): void;
  /** After `send` took less than it was given: more can be taken now. */
  onDrain(): void;
  /** Once, as the last call. `reason` is undefined when the end was orderly. */
  onClose(reason: string | undefined): void;
}

/**
 * One end of a reliable, ordered, bidirectional byte stream: Unix socket, ring page or memory. Callbacks may
 * come synchronously from within `attach`, `send` or `resume`.
 */
export interface ByteStream {
  /** Exactly one handler, before anything is delivered. */
  attach(handler: ByteStreamHandler): void;
  /**
   * Takes as many leading bytes as there is room for and returns their count; when it is less than
   * `bytes.length`, `onDrain` follows. Taken bytes belong to the stream: do not change them afterwards.
   */
  send(bytes: Uint8Array): number;
  /** Stops `onData` until `resume`; the sender on the other side then runs out of room. */
  pause(): void;
  resume(): void;
  /**
   * Ends both directions; `onClose` follows. Bytes taken before are still delivered if the medium can. With
   * `'protocol'` the medium tells the peer, if it can, that it broke the protocol. Idempotent.
   */
  close(failure?: 'protocol'): void;
}
