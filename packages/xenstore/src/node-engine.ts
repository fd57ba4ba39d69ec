import type { ByteString } from './byte-string.ts';
import type { XenstoreErrorCode } from './errors.ts';
import type { StoreConnection } from './store-connection.ts';
import type { Transaction } from './transaction.ts';
import type { NodePermissions } from './permissions.ts';

/** Who does something, in which transaction if any; `cause` comes back with the events. */
export interface NodeContext {
  readonly connection: StoreConnection;
  readonly transaction: Transaction | undefined;
  readonly cause?: unknown;
}

/** The names of a node's children, in the daemon's order. */
export interface FoundChildren {
  readonly count: number;
  names(): IterableIterator<string>;
  has(name: string): boolean;
  /** Each name with its NUL: the payload of a DIRECTORY reply. */
  encoded(): ByteString;
}

/** A node as an engine shows it. Valid until the next change. */
export interface FoundNode {
  readonly value: ByteString;
  readonly permissions: NodePermissions;
  readonly children: FoundChildren;
  /** Of its last change; 0 from an engine that does not count them. */
  readonly generation: number;
}

/**
 * The operations on nodes, directly or in a transaction: what the daemons do most differently. Paths are canonical
 * and not yet checked. Answers are the daemon's error codes; nothing throws for what a client did.
 */
export interface NodeEngine {
  /** The node, if the connection holds all rights of `mask` on it. */
  find(context: NodeContext, path: string, mask: number): FoundNode | XenstoreErrorCode;
  write(context: NodeContext, path: string, value: ByteString): XenstoreErrorCode | undefined;
  mkdir(context: NodeContext, path: string): XenstoreErrorCode | undefined;
  rm(context: NodeContext, path: string): XenstoreErrorCode | undefined;
  /** `entries` as on the wire, `<n|r|w|b><domid>`. Also for the special names. */
  setPermissions(
    context: NodeContext,
    path: string,
    entries: readonly string[],
  ): XenstoreErrorCode | undefined;
  /** Everything or nothing; afterwards the transaction must not be used any more. */
  commit(
    connection: StoreConnection,
    transaction: Transaction,
    cause: unknown,
  ): XenstoreErrorCode | undefined;
  /** Removes a node whose owner died, on nobody's behalf. */
  removeOrphan(path: string): void;
}
