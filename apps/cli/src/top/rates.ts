import type { DaemonStatistics } from '@virtlab/xenstore';

type Connection = DaemonStatistics['connections'][number];

/** A connection with what it did in the interval, per second. */
export interface ConnectionRates extends Connection {
  readonly requestsPerSecond: number;
  readonly eventsPerSecond: number;
}

/** What a daemon did between two looks at it: rates per second of its own clock, beside the later counts. */
export interface TopSnapshot {
  readonly intervalMs: number;
  readonly requestsPerSecond: number;
  readonly eventsPerSecond: number;
  /** Operations that were asked for in the interval, most frequent first. */
  readonly operations: readonly { readonly name: string; readonly perSecond: number }[];
  /** Busiest first. */
  readonly connections: readonly ConnectionRates[];
  readonly statistics: DaemonStatistics;
}

export function compareStatistics(earlier: DaemonStatistics, later: DaemonStatistics): TopSnapshot {
  const intervalMs = later.uptimeMs - earlier.uptimeMs;
  const perSecond = (before: number, after: number): number =>
    intervalMs <= 0 ? 0 : ((after - before) * 1000) / intervalMs;
  const known = new Map(earlier.connections.map((each) => [each.id, each]));
  const connections = later.connections.map((each) => {
    const before = known.get(each.id);
    return {
      ...each,
      requestsPerSecond: perSecond(before?.requestCount ?? 0, each.requestCount),
      eventsPerSecond: perSecond(before?.eventCount ?? 0, each.eventCount),
    };
  });
  const operations = Object.entries(later.requests)
    .map(([name, count]) => ({ name, perSecond: perSecond(earlier.requests[name] ?? 0, count) }))
    .filter((each) => each.perSecond > 0);
  return {
    intervalMs,
    requestsPerSecond: perSecond(earlier.requestCount, later.requestCount),
    eventsPerSecond: perSecond(earlier.eventCount, later.eventCount),
    operations: operations.toSorted((a, b) => b.perSecond - a.perSecond || a.name.localeCompare(b.name)),
    connections: connections.toSorted((a, b) => activity(b) - activity(a) || a.id - b.id),
    statistics: later,
  };
}

function activity({ requestsPerSecond, eventsPerSecond }: ConnectionRates): number {
  return requestsPerSecond + eventsPerSecond;
}
