import type { DaemonCounters } from './daemon-counters.ts';
import type { ConnectionReport, DaemonStatistics } from './daemon-statistics.ts';
import type { XenstoreStore } from './store.ts';

/** Everything that a daemon counts, as it is now. */
export function daemonReport(
  store: XenstoreStore,
  counters: DaemonCounters,
  connections: Iterable<{ report(): ConnectionReport }>,
): DaemonStatistics {
  const domains = store.use();
  return {
    profile: store.profile.name,
    uptimeMs: counters.clock.now() - counters.startedAt,
    nodeCount: store.nodeCount,
    watchCount: store.watchCount,
    transactionCount: domains.reduce((sum, { transactionCount }) => sum + transactionCount, 0),
    requestCount: counters.requestCount,
    eventCount: counters.eventCount,
    requests: counters.requests(),
    errors: counters.errors(),
    connections: Array.from(connections, (connection) => connection.report()),
    domains,
    quotas: counters.quotas(),
    conflicts: counters.conflicts(),
    fanOut: counters.fanOuts(),
  };
}
