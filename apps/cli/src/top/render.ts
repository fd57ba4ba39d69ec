import Table from 'cli-table3';
import type { DaemonStatistics } from '@virtlab/xenstore';
import pc from 'picocolors';
import type { TopSnapshot } from './rates.ts';

/** Limits of an unprivileged domain by the quota's name, as far as the daemon told them. */
export type QuotaLimits = ReadonlyMap<string, number>;

/** Rows of a section; a terminal has few lines. */
const ROW_COUNT_MAX = 12;

/** A snapshot in lines, without line ends. */
export function renderSnapshot(snapshot: TopSnapshot, limits: QuotaLimits): string[] {
  return [
    ...renderTotals(snapshot),
    ...renderConnections(snapshot),
    ...renderDomains(snapshot.statistics, limits),
    ...renderQuotas(snapshot.statistics),
    ...renderConflicts(snapshot.statistics),
    ...renderFanOut(snapshot.statistics),
  ];
}

function renderTotals({ statistics, requestsPerSecond, eventsPerSecond, operations }: TopSnapshot): string[] {
  const { profile, uptimeMs, nodeCount, watchCount, transactionCount, connections, errors } = statistics;
  const failed = Object.entries(errors).toSorted(([, a], [, b]) => b - a);
  return [
    `${pc.bold(`xenstored ${profile}`)}  up ${duration(uptimeMs)}  connections ${connections.length}  ` +
      `nodes ${nodeCount}  watches ${watchCount}  transactions ${transactionCount}`,
    `requests/s ${pc.bold(rate(requestsPerSecond))}  events/s ${pc.bold(rate(eventsPerSecond))}` +
      operations.map(({ name, perSecond }) => `  ${name} ${rate(perSecond)}`).join(''),
    ...(failed.length === 0
      ? []
      : [`error replies${failed.map(([code, count]) => `  ${code} ${count}`).join('')}`]),
  ];
}

function renderConnections({ connections }: TopSnapshot): string[] {
  return section(
    ['CONNECTION', 'DOM', 'KIND', 'REQUESTS/S', 'EVENTS/S', 'MERGED', 'WATCHES', 'TX', 'OUTPUT', 'WAITS FOR'],
    connections.map((each) => [
      String(each.id),
      String(each.domid),
      each.privileged ? each.kind : `${each.kind}, unprivileged`,
      rate(each.requestsPerSecond),
      rate(each.eventsPerSecond),
      String(each.coalescedCount),
      String(each.watchCount),
      String(each.transactionCount),
      bytes(each.outputSize),
      each.waitsFor === undefined ? '' : pc.yellow(each.waitsFor),
    ]),
  );
}

function renderDomains({ domains }: DaemonStatistics, limits: QuotaLimits): string[] {
  return section(
    ['DOMAIN', 'NODES', 'WATCHES', 'TX', 'OUTSTANDING', 'MEMORY', 'CONNECTIONS'],
    domains.map((each) => {
      const of = (count: number, quota: string, format: (n: number) => string = String): string => {
        const limit = each.domid === 0 ? undefined : limits.get(quota);
        return limit === undefined ? format(count) : `${format(count)}/${format(limit)}`;
      };
      return [
        each.introduced || each.domid === 0 ? String(each.domid) : `${each.domid}, not introduced`,
        of(each.nodeCount, 'nodes'),
        of(each.watchCount, 'watches'),
        of(each.transactionCount, 'transactions'),
        of(each.outstandingCount, 'outstanding'),
        of(each.memorySize, 'memory', bytes),
        String(each.connectionCount),
      ];
    }),
  );
}

function renderQuotas({ quotas }: DaemonStatistics): string[] {
  return section(
    ['QUOTA FIRED', 'DOMAIN', 'TIMES', 'LAST FOR'],
    quotas.map(({ quota, domid, count, last }) => [pc.red(quota), String(domid), String(count), last]),
  );
}

function renderConflicts({ conflicts }: DaemonStatistics): string[] {
  return section(
    ['CONFLICT OVER', 'TIMES', 'WRITTEN BY', 'LOST BY'],
    conflicts.map(({ path, count, writerId, writerDomid, loserId, loserDomid }) => [
      path,
      String(count),
      writerId === 0 ? 'unknown' : `connection ${writerId}, domain ${writerDomid}`,
      `connection ${loserId}, domain ${loserDomid}`,
    ]),
  );
}

function renderFanOut({ fanOut }: DaemonStatistics): string[] {
  return section(
    ['CHANGES HEARD BY MANY', 'CHANGES', 'EVENTS', 'EVENTS EACH'],
    fanOut.map(({ path, changeCount, eventCount }) => [
      path,
      String(changeCount),
      String(eventCount),
      rate(eventCount / Math.max(1, changeCount)),
    ]),
  );
}

/** Nothing when there are no rows. */
function section(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  if (rows.length === 0) return [];
  const none = '';
  const table = new Table({
    head: head.map((title) => pc.bold(title)),
    style: { head: [], border: [], compact: true, 'padding-left': 0, 'padding-right': 2 },
    chars: {
      top: none,
      'top-mid': none,
      'top-left': none,
      'top-right': none,
      bottom: none,
      'bottom-mid': none,
      'bottom-left': none,
      'bottom-right': none,
      left: none,
      'left-mid': none,
      mid: none,
      'mid-mid': none,
      right: none,
      'right-mid': none,
      middle: none,
    },
  });
  table.push(...rows.slice(0, ROW_COUNT_MAX).map((row) => [...row]));
  const more = rows.length > ROW_COUNT_MAX ? [pc.dim(`and ${rows.length - ROW_COUNT_MAX} more`)] : [];
  return [
    '',
    ...table
      .toString()
      .split('\n')
      .map((line) => line.trimEnd()),
    ...more,
  ];
}

function rate(perSecond: number): string {
  return perSecond >= 100 ? perSecond.toFixed(0) : perSecond.toFixed(1);
}

function bytes(size: number): string {
  if (size < 10_000) return String(size);
  return size < 10_000 * 1024 ? `${(size / 1024).toFixed(0)}K` : `${(size / (1024 * 1024)).toFixed(0)}M`;
}

function duration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  const two = (value: number): string => String(value).padStart(2, '0');
  return `${Math.floor(seconds / 3600)}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
}
