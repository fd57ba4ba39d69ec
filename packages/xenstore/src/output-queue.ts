import type { ByteStream } from './contract.ts';

/** A request whose sender counts it as outstanding until its reply and all events it caused are delivered. */
export interface RequestTicket {
  /** Events queued at any connection and not yet taken by its stream. */
  pendingEventCount: number;
  isReplied: boolean;
  /** Called once, when nothing of it is pending any more. */
  readonly onSettled: () => void;
}

interface QueuedMessage {
  readonly bytes: Uint8Array;
  /** Set for events that an identical later event may be dropped for. */
  readonly eventKey: string | undefined;
  readonly isEvent: boolean;
  /** Time after which an event that is not yet begun is dropped; undefined: never. */
  readonly deadline: number | undefined;
  readonly ticket: RequestTicket | undefined;
}

/**
 * What a connection has not taken yet, in order. An event that is identical to one still queued is dropped, except
 * for special names (xenstored 4.17, `send_event`): a sleeping watcher costs as much memory as it has distinct
 * events, not as there were changes.
 */
export class OutputQueue {
  readonly #stream: ByteStream;
  readonly #onSize: (delta: number) => void;
  #messages: QueuedMessage[] = [];
  #first = 0;
  /** Bytes of the first message that the stream has taken. */
  #sent = 0;
  #size = 0;
  #eventCount = 0;
  readonly #eventKeys = new Set<string>();
  #isFlushing = false;
  #isDrained = false;

  /** `onSize` hears of every change of `size`. */
  constructor(stream: ByteStream, onSize: (delta: number) => void) {
    this.#stream = stream;
    this.#onSize = onSize;
  }

  /** Events that are not completely taken. */
  get eventCount(): number {
    return this.#eventCount;
  }

  /** Bytes of messages that are not completely taken. */
  get size(): number {
    return this.#size;
  }

  get isEmpty(): boolean {
    return this.#first === this.#messages.length;
  }

  pushReply(bytes: Uint8Array, ticket: RequestTicket | undefined): void {
    if (ticket !== undefined) ticket.isReplied = false;
    this.#push({ bytes, eventKey: undefined, isEvent: false, deadline: undefined, ticket });
  }

  /** `eventKey` is what makes events identical; undefined for those that are always kept. */
  pushEvent(
    bytes: Uint8Array,
    eventKey: string | undefined,
    ticket: RequestTicket | undefined,
    deadline?: number,
  ): void {
    if (eventKey !== undefined) this.#eventKeys.add(eventKey);
    if (ticket !== undefined) ticket.pendingEventCount += 1;
    this.#eventCount += 1;
    this.#push({ bytes, eventKey, isEvent: true, deadline, ticket });
  }

  hasEvent(eventKey: string): boolean {
    return this.#eventKeys.has(eventKey);
  }

  /** Gives the stream what it takes. May be called from within the stream's own callbacks. */
  flush(): void {
    this.#isDrained = true;
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    try {
      while (this.#isDrained) {
        this.#isDrained = false;
        this.#sendSome();
      }
    } finally {
      this.#isFlushing = false;
    }
  }

  /** Drops the events whose deadline is `now` or before, as if they had been delivered, but none that is begun. */
  dropExpired(now: number): { readonly droppedCount: number; readonly nextDeadline: number | undefined } {
    const begun = this.#sent > 0 ? this.#messages[this.#first] : undefined;
    const dropped: QueuedMessage[] = [];
    let nextDeadline: number | undefined;
    const kept = this.#messages.slice(this.#first).filter((message) => {
      const { deadline } = message;
      if (deadline === undefined || message === begun) return true;
      if (deadline > now) {
        nextDeadline ??= deadline;
        return true;
      }
      dropped.push(message);
      return false;
    });
    if (dropped.length > 0) {
      this.#messages = kept;
      this.#first = 0;
      for (const message of dropped) this.#forget(message);
    }
    return { droppedCount: dropped.length, nextDeadline };
  }

  /** Drops everything, as if it had been delivered. */
  clear(): void {
    while (!this.isEmpty) this.#shift();
  }

  #push(message: QueuedMessage): void {
    this.#messages.push(message);
    this.#size += message.bytes.length;
    this.#onSize(message.bytes.length);
  }

  #sendSome(): void {
    while (!this.isEmpty) {
      const { bytes } = this.#messages[this.#first]!;
      const rest = this.#sent === 0 ? bytes : bytes.subarray(this.#sent);
      const taken = this.#stream.send(rest);
      if (this.isEmpty) return; // the stream ended within send(), and the queue was cleared
      if (taken < rest.length) {
        this.#sent += taken;
        return;
      }
      this.#shift();
    }
  }

  #shift(): void {
    const message = this.#messages[this.#first]!;
    this.#first += 1;
    this.#sent = 0;
    if (this.#first === this.#messages.length) {
      this.#messages = [];
      this.#first = 0;
    } else if (this.#first > 1024 && this.#first * 2 > this.#messages.length) {
      this.#messages = this.#messages.slice(this.#first);
      this.#first = 0;
    }
    this.#forget(message);
  }

  /** The message is no longer queued. */
  #forget(message: QueuedMessage): void {
    this.#size -= message.bytes.length;
    if (message.isEvent) this.#eventCount -= 1;
    this.#onSize(-message.bytes.length);
    if (message.eventKey !== undefined) this.#eventKeys.delete(message.eventKey);
    settle(message);
  }
}

function settle({ ticket, isEvent }: QueuedMessage): void {
  if (ticket === undefined) return;
  if (isEvent) ticket.pendingEventCount -= 1;
  else ticket.isReplied = true;
  if (ticket.isReplied && ticket.pendingEventCount === 0) ticket.onSettled();
}
