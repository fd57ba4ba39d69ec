import type { DaemonStatistics } from '../daemon-statistics.ts';
import type { FaultInjector } from '../fault-injector.ts';
import type { FaultPlan } from '../fault-plan.ts';
import type { XenstoreProfile, XenstoreQuotas } from '../profile.ts';
import type { ControlSinks, XenstoreDomainHost, XenstoreServer } from '../server.ts';
import type { XenstoreStore } from '../store.ts';

export interface XenstoredOptions {
  /** Default: `userSocketPath()`, whose directory is made if it is this user's own. */
  readonly socketPath?: string;
  readonly profile?: XenstoreProfile;
  readonly quotas?: Partial<XenstoreQuotas>;
  readonly domains?: XenstoreDomainHost;
  /** File that one line a request, event and cause is appended to. */
  readonly accessLog?: string;
  /** Gets each line of the protocol trace: every message in and out, decoded. */
  readonly trace?: (line: string) => void;
  /** File that the tree is read from at the start; ENOENT rejects. */
  readonly restore?: string;
  /** File that the tree is written to when the daemon is closed, and on CONTROL `dump`. */
  readonly dump?: string;
  readonly faults?: FaultPlan;
  /** Of everything random (faults). Default 1. */
  readonly seed?: number;
  /** What CONTROL does beside answering; `log` and `logFile` switch the access log unless they are given. */
  readonly control?: ControlSinks;
  /** Whether CONTROL also knows `statistics`, `fault` and `dump`, which real daemons do not. Default true. */
  readonly controlExtensions?: boolean;
}

/** A running daemon: store, server, socket and what watches over them. */
export interface Xenstored {
  readonly socketPath: string;
  readonly store: XenstoreStore;
  readonly server: XenstoreServer;
  /** What goes wrong on purpose; may be changed while running. */
  readonly faults: FaultInjector;
  statistics(): DaemonStatistics;
  /** Opens the access log anew by its name, after it was renamed (SIGHUP). Rejects if that fails; logging goes on. */
  reopenLogs(): Promise<void>;
  /**
   * Removes the socket, ends all connections, writes the dump if there is one to write. Idempotent. Rejects if the dump
   * cannot be written; the daemon has ended all the same.
   */
  close(): Promise<void>;
}

/**
 * Starts a daemon on a socket. Rejects as `listenXenstore` does, with the file system's error when the access log or the
 * dump cannot be opened, and with a `DumpError` when the dump is none.
 */
export type StartXenstored = (options?: XenstoredOptions) => Promise<Xenstored>;
