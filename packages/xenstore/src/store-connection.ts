import type { DomainRecord } from './domain-table.ts';
import type { PermissionSubject } from './permissions.ts';
import type { Transaction } from './transaction.ts';
import type { WatchRecord } from './watch-index.ts';

/**
 * Receives the events of one connection. `cause` is what the caller of the changing operation passed along. Must
 * only queue: the store is in the middle of an operation.
 */
export type WatchEventSink = (path: string, token: string, cause: unknown) => void;

export type StoreWatch = WatchRecord<StoreConnection>;

/** Who may do what, and what it holds open. One per client connection. */
export class StoreConnection implements PermissionSubject {
  readonly domain: DomainRecord;
  readonly privileged: boolean;
  /** Connections hear of a change in the order in which they were opened. */
  readonly sequence: number;
  readonly onEvent: WatchEventSink;
  readonly transactions: Map<number, Transaction> = new Map();
  /** By `watchKey`, in registration order. */
  readonly watches: Map<string, StoreWatch> = new Map();
  /** Whether another event may be queued now. Set by whoever has the queue. */
  hasEventRoom: () => boolean = () => true;
  /** To be called when there may be room for events again. Set by whoever holds events back. */
  onEventRoom: (() => void) | undefined;
  /** Events that its requests caused and that nobody had room for: while there are any, it may request nothing more. */
  heldEventCount = 0;
  #nextTransactionId = 1;

  constructor(domain: DomainRecord, privileged: boolean, sequence: number, onEvent: WatchEventSink) {
    this.domain = domain;
    this.privileged = privileged;
    this.sequence = sequence;
    this.onEvent = onEvent;
  }

  get domid(): number {
    return this.domain.domid;
  }

  /** Among the daemon's connections. A domain that is introduced again keeps its place. */
  get place(): number {
    return this.privileged ? this.sequence : this.domain.place;
  }

  get target(): number | undefined {
    return this.domain.target;
  }

  /** The next id that is not in use; u32, never 0. */
  takeTransactionId(): number {
    for (;;) {
      const id = this.#nextTransactionId;
      this.#nextTransactionId = (id + 1) >>> 0;
      if (id !== 0 && !this.transactions.has(id)) return id;
    }
  }
}

export function watchKey(path: string, token: string): string {
  return `${path}\0${token}`;
}
