import type { StoreUse } from './store-report.ts';
/** One connection as `statistics` shows it. Counts since it was opened; sizes in bytes. */
export interface ConnectionReport {
  /** 1, 2, 3 … in the order of opening; what the access log calls it. */
  readonly id: number;
  readonly domid: number;
  readonly kind: 'socket' | 'ring' | 'memory';
  readonly privileged: boolean;
  readonly requestCount: number;
  readonly eventCount: number;
  readonly coalescedCount: number;
  readonly watchCount: number;
  readonly transactionCount: number;
  readonly outputSize: number;
  /** Why it is not read from now; undefined while it is. */
  readonly waitsFor: 'output' | 'outstanding' | 'memory' | 'write-rate' | 'conflicts' | 'request' | undefined;
}

/** A quota that refused something, with whom it refused last. */
export interface QuotaReport {
  readonly quota: string;
  readonly domid: number;
  readonly count: number;
  /** Path or operation of the last refusal. */
  readonly last: string;
}

/** A node over which transactions failed. */
export interface ConflictReport {
  readonly path: string;
  readonly count: number;
  /** Connection that changed it before the last failure, 0 when it is not known (any more), and its domain. */
  readonly writerId: number;
  readonly writerDomid: number;
  /** Connection whose transaction failed last, and its domain. */
  readonly loserId: number;
  readonly loserDomid: number;
}

/** A changed path whose change many heard. */
export interface FanOutReport {
  readonly path: string;
  /** How often it changed, and how many events that made in all. */
  readonly changeCount: number;
  readonly eventCount: number;
}

/** Everything that a daemon counts: what CONTROL `statistics` answers, as JSON. */
export interface DaemonStatistics {
  readonly profile: string;
  readonly uptimeMs: number;
  readonly nodeCount: number;
  readonly watchCount: number;
  readonly transactionCount: number;
  readonly requestCount: number;
  readonly eventCount: number;
  /** By the operation's name in xenstore.txt. */
  readonly requests: Readonly<Record<string, number>>;
  /** Error replies by code. */
  readonly errors: Readonly<Record<string, number>>;
  readonly connections: readonly ConnectionReport[];
  readonly domains: readonly StoreUse[];
  /** Most frequent first, a bounded number each. */
  readonly quotas: readonly QuotaReport[];
  readonly conflicts: readonly ConflictReport[];
  readonly fanOut: readonly FanOutReport[];
}
