import type { DaemonClock } from './daemon-clock.ts';
import type { FaultInjector } from './fault-injector.ts';
import type { RequestTicket } from './output-queue.ts';

interface HeldEvent {
  readonly path: string;
  readonly token: string;
  readonly ticket: RequestTicket | undefined;
}

/** Bytes that an event counts for beside its strings, so that empty ones are bounded too. */
const EVENT_OVERHEAD_SIZE = 64;

/**
 * Events of one connection that a fault holds back: each until its time has come, or until a batch is complete or
 * a reply goes out. They keep their order, and the request that caused one stays outstanding.
 */
export class HeldEvents {
  readonly #faults: FaultInjector;
  readonly #clock: DaemonClock;
  readonly #release: (event: HeldEvent) => void;
  readonly #onLate: () => void;
  #batch = new Map<string, HeldEvent>();
  /** In order; each entry falls due with its own timer. */
  #delayed: HeldEvent[][] = [];
  readonly #timers = new Set<() => void>();
  #size = 0;

  /** `release` gets each event when it is let go; `onLate` is called after some were let go by the clock. */
  constructor(
    faults: FaultInjector,
    clock: DaemonClock,
    release: (event: HeldEvent) => void,
    onLate: () => void,
  ) {
    this.#faults = faults;
    this.#clock = clock;
    this.#release = release;
    this.#onLate = onLate;
  }

  /** Bytes held. */
  get size(): number {
    return this.#size;
  }

  get isEmpty(): boolean {
    return this.#size === 0;
  }

  hold(path: string, token: string, ticket: RequestTicket | undefined): void {
    const event = { path, token, ticket };
    const { eventBatch } = this.#faults;
    const key = `${path}\0${token}`;
    if (eventBatch > 1) {
      if (this.#batch.has(key)) return;
      this.#take(event);
      this.#batch.set(key, event);
      if (this.#batch.size >= eventBatch) this.#letBatchGo();
      return;
    }
    this.#letBatchGo();
    this.#take(event);
    this.#delay([event]);
  }

  /** A reply goes out: a batch does not wait any longer. */
  onReply(): void {
    this.#letBatchGo();
  }

  /** Forgets everything, as if it had been delivered. */
  clear(): void {
    for (const cancel of this.#timers) cancel();
    this.#timers.clear();
    const events = [...this.#delayed.flat(), ...this.#batch.values()];
    this.#delayed = [];
    this.#batch.clear();
    for (const event of events) {
      this.#give(event);
      settle(event.ticket);
    }
  }

  #letBatchGo(): void {
    if (this.#batch.size === 0) return;
    const events = [...this.#batch.values()];
    this.#batch = new Map();
    this.#delay(events);
  }

  /** After the delay in force now; never before what is delayed already. */
  #delay(events: HeldEvent[]): void {
    const { eventDelayMs } = this.#faults;
    if (eventDelayMs === 0 && this.#delayed.length === 0) {
      this.#letGo(events);
      return;
    }
    this.#delayed.push(events);
    const cancel = this.#clock.after(eventDelayMs, () => {
      this.#timers.delete(cancel);
      // Timers of a shorter, later delay come first: they then let the oldest go, and the order stays.
      const due = this.#delayed.shift();
      if (due !== undefined) this.#letGo(due);
      this.#onLate();
    });
    this.#timers.add(cancel);
  }

  #letGo(events: readonly HeldEvent[]): void {
    for (const event of events) {
      this.#give(event);
      this.#release(event);
      settle(event.ticket);
    }
  }

  #take(event: HeldEvent): void {
    this.#size += event.path.length + event.token.length + EVENT_OVERHEAD_SIZE;
    if (event.ticket !== undefined) event.ticket.pendingEventCount += 1;
  }

  #give(event: HeldEvent): void {
    this.#size -= event.path.length + event.token.length + EVENT_OVERHEAD_SIZE;
    if (event.ticket !== undefined) event.ticket.pendingEventCount -= 1;
  }
}

function settle(ticket: RequestTicket | undefined): void {
  if (ticket !== undefined && ticket.isReplied && ticket.pendingEventCount === 0) ticket.onSettled();
}
