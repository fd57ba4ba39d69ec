import type { XenstoreErrorCode } from './errors.ts';
import type { NodePermissions } from './permissions.ts';
import type { StoreConnection, StoreWatch } from './store-connection.ts';

/** The registrations of all connections, as the store deals with them whatever the daemon. */
export interface WatchRegistry {
  readonly count: number;
  /** Registers. The caller owes the connection the event `firstEventPath(watch)`. `path` is as the client gave it. */
  add(
    connection: StoreConnection,
    path: string,
    token: string,
    depth: number,
  ): StoreWatch | XenstoreErrorCode;
  remove(connection: StoreConnection, path: string, token: string): XenstoreErrorCode | undefined;
  removeAll(connection: StoreConnection): void;
  /** `@introduceDomain` and `@releaseDomain`, because of `domid`. */
  fireSpecial(name: string, domid: number, order?: readonly ('plain' | 'domain')[]): void;
  /** The domain is gone, and with it what special names allowed it. */
  forgetDomain(domid: number): void;
  /** Of a special name that is no node; undefined where they are nodes. */
  specialPermissions?(name: string): NodePermissions | undefined;
}
