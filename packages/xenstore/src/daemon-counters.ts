import { type DaemonClock, SYSTEM_CLOCK } from './daemon-clock.ts';
import type { ConflictReport, FanOutReport, QuotaReport } from './daemon-statistics.ts';
import { OPERATION_COUNT, operationName } from './operation-names.ts';
import { RecentWriters } from './recent-writers.ts';
import type { StoreConnection } from './store-connection.ts';
import type { QuotaName, StoreObserver } from './store-observer.ts';
import { Tally } from './tally.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Entries of each table that are kept, and that a report shows. */
const KEPT_COUNT = 256;
const SHOWN_COUNT = 32;

interface CountedFanOut {
  readonly path: string;
  /** Events: what makes a path worth showing. */
  count: number;
  changeCount: number;
}

/**
 * Everything the daemon counts, and why the last request was refused. Plain counters and tables of bounded size: the
 * cost of a request does not grow with what was counted before.
 */
export class DaemonCounters implements StoreObserver {
  readonly clock: DaemonClock;
  readonly startedAt: number;
  requestCount = 0;
  eventCount = 0;
  /** Why the request that is being processed fails, in words; whoever looks at it forgets it afterwards. */
  cause: string | undefined;
  /** Hears of every change that some watch hears of. */
  onFanOut: ((path: string, eventCount: number) => void) | undefined;
  readonly #requests = new Float64Array(OPERATION_COUNT);
  #unknownRequestCount = 0;
  readonly #errors = new Map<string, number>();
  readonly #quotas = new Tally<Mutable<QuotaReport>>(KEPT_COUNT);
  readonly #conflicts = new Tally<Mutable<ConflictReport>>(KEPT_COUNT);
  readonly #fanOut = new Tally<CountedFanOut>(KEPT_COUNT);
  readonly #writers = new RecentWriters();

  constructor(clock: DaemonClock = SYSTEM_CLOCK) {
    this.clock = clock;
    this.startedAt = clock.now();
  }

  request(type: number): void {
    this.requestCount += 1;
    if (type < OPERATION_COUNT) this.#requests[type]! += 1;
    else this.#unknownRequestCount += 1;
  }

  error(code: string): void {
    this.#errors.set(code, (this.#errors.get(code) ?? 0) + 1);
  }

  quotaFired(quota: QuotaName, domid: number, subject: string, used: number, limit: number): void {
    this.cause = `quota ${quota} of dom ${domid}: ${used} of ${limit}`;
    const key = `${quota} ${domid}`;
    const counted = this.#quotas.get(key);
    if (counted === undefined) {
      this.#quotas.add(key, { quota, domid, count: 1, last: subject });
      return;
    }
    counted.count += 1;
    counted.last = subject;
  }

  conflict(loser: StoreConnection, path: string): void {
    const write = this.#writers.find(path);
    const writerId = write?.connectionId ?? 0;
    const writerDomid = write?.domid ?? 0;
    const age = write === undefined ? '' : ` ${this.clock.now() - write.at} ms ago`;
    const who = writerId === 0 ? '' : ` by conn ${writerId} dom ${writerDomid}`;
    this.cause = `${path} changed${who}${age}, after it was read`;
    const counted = this.#conflicts.get(path);
    const last = { writerId, writerDomid, loserId: loser.sequence, loserDomid: loser.domid };
    if (counted === undefined) this.#conflicts.add(path, { path, count: 1, ...last });
    else Object.assign(counted, last, { count: counted.count + 1 });
  }

  forcedConflict(): void {
    this.cause = 'forced by a fault';
  }

  fanOut(path: string, eventCount: number): void {
    const counted = this.#fanOut.get(path);
    if (counted === undefined) {
      this.#fanOut.add(path, { path, count: eventCount, changeCount: 1 });
    } else {
      counted.count += eventCount;
      counted.changeCount += 1;
    }
    this.onFanOut?.(path, eventCount);
  }

  changed(path: string, writer: StoreConnection | undefined): void {
    this.#writers.note(path, writer, this.clock.now());
  }

  settled(): void {
    this.#writers.clear();
  }

  /** Requests by operation; only those that came. */
  requests(): Record<string, number> {
    const found: Record<string, number> = {};
    for (const [type, count] of this.#requests.entries()) if (count > 0) found[operationName(type)] = count;
    if (this.#unknownRequestCount > 0) found['unknown'] = this.#unknownRequestCount;
    return found;
  }

  errors(): Record<string, number> {
    return Object.fromEntries(this.#errors);
  }

  quotas(): QuotaReport[] {
    return this.#quotas.top(SHOWN_COUNT).map((entry) => ({ ...entry }));
  }

  conflicts(): ConflictReport[] {
    return this.#conflicts.top(SHOWN_COUNT).map((entry) => ({ ...entry }));
  }

  fanOuts(): FanOutReport[] {
    return this.#fanOut
      .top(SHOWN_COUNT)
      .map(({ path, count, changeCount }) => ({ path, changeCount, eventCount: count }));
  }
}
