import { AccessLog } from './access-log.ts';
import { controlExtensions, type ControlExtensionParts } from './control-extensions.ts';
import { type DaemonClock, SYSTEM_CLOCK } from './daemon-clock.ts';
import { DaemonCounters } from './daemon-counters.ts';
import { FaultInjector } from './fault-injector.ts';
import type { FaultPlan } from './fault-plan.ts';
import { XenstoreServer, type XenstoreServerOptions } from './server.ts';
import { type StoreOptions, XenstoreStore } from './store.ts';

export interface DaemonOptions
  extends StoreOptions, Omit<XenstoreServerOptions, 'store' | 'counters' | 'faults'> {
  /** What goes wrong on purpose from the start. */
  readonly faults?: FaultPlan;
  /** Of everything random (faults). Default 1. */
  readonly seed?: number;
  /** Default: the machine's. */
  readonly clock?: DaemonClock;
  /** Whether CONTROL also knows `statistics`, `fault` and `dump`, which real daemons do not. Default false. */
  readonly controlExtensions?: boolean;
  /** Gets each line of the access log, without its end. */
  readonly accessLog?: (line: string) => void;
  /** Gets each line of the protocol trace: every message in and out, decoded. */
  readonly trace?: (line: string) => void;
  /** CONTROL `dump`, if that is enabled. */
  readonly dump?: ControlExtensionParts['dump'];
}

/** A store and its server, with what counts, logs and breaks them. */
export interface Daemon {
  readonly store: XenstoreStore;
  readonly server: XenstoreServer;
  readonly faults: FaultInjector;
}

/** Throws `RangeError` for a fault plan that makes no sense. */
export function assembleDaemon(options: DaemonOptions): Daemon {
  const counters = new DaemonCounters(options.clock ?? SYSTEM_CLOCK);
  const faults = new FaultInjector(options.faults, options.seed);
  const store = new XenstoreStore({
    ...options,
    forceConflict: () => faults.takeConflict() || options.forceConflict?.() === true,
    fullQuotas: options.fullQuotas ?? faults.fullQuotas,
    observer: options.observer ?? counters,
  });
  const statistics: ControlExtensionParts['statistics'] = () => server.daemonStatistics();
  const extensions = controlExtensions({ statistics, faults, ...(options.dump && { dump: options.dump }) });
  const control = options.controlExtensions === true ? { ...options.control, extensions } : options.control;
  const server: XenstoreServer = new XenstoreServer({
    ...options,
    store,
    counters,
    faults,
    ...(control && { control }),
  });
  server.monitor.traceTo(options.trace);
  if (options.accessLog !== undefined) {
    server.monitor.logTo(new AccessLog(options.accessLog, counters.clock));
  }
  return { store, server, faults };
}
