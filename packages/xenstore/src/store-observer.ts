import type { StoreConnection } from './store-connection.ts';

/** Quotas by the names that CONTROL `quota` gives them, and what is limited beside them. */
export type QuotaName =
  | 'nodes'
  | 'watches'
  | 'transactions'
  | 'outstanding'
  | 'transaction-nodes'
  | 'transaction-requests'
  | 'memory'
  | 'node-size'
  | 'path-max'
  | 'permissions'
  | 'write-rate'
  | 'watch-events';

/** Every name, for those who read it from a command line. */
export const QUOTA_NAMES: readonly QuotaName[] = [
  'nodes',
  'watches',
  'transactions',
  'outstanding',
  'transaction-nodes',
  'transaction-requests',
  'memory',
  'node-size',
  'path-max',
  'permissions',
  'write-rate',
  'watch-events',
];

/**
 * Hears why the store answers as it does. Called from within its operations: must only take note, and be quick.
 */
export interface StoreObserver {
  /**
   * A quota refused something. `subject` is the path, or the operation where there is none; `used` is what it would
   * have come to, or what there is already, in the quota's unit.
   */
  quotaFired(quota: QuotaName, domid: number, subject: string, used: number, limit: number): void;
  /** The transaction of `loser` fails because of what happened to `path` since it looked at it. */
  conflict(loser: StoreConnection, path: string): void;
  /** The transaction of `loser` fails because it was asked for: there is no conflict. */
  forcedConflict(loser: StoreConnection): void;
  /** So many watches hear of a change of `path`; at least one. */
  fanOut(path: string, eventCount: number): void;
  /** `path` was written or removed while a transaction is open; by nobody when its owner died. */
  changed(path: string, writer: StoreConnection | undefined): void;
  /** No transaction is open any more: what `changed` said is of no more use. */
  settled(): void;
}

/** Hears nothing. */
export const NO_OBSERVER: StoreObserver = {
  quotaFired: () => undefined,
  conflict: () => undefined,
  forcedConflict: () => undefined,
  fanOut: () => undefined,
  changed: () => undefined,
  settled: () => undefined,
};
