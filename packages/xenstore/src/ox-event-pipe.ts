import type { StoreConnection, StoreWatch } from './store-connection.ts';

interface PendingEvent {
  readonly path: string;
  readonly cause: unknown;
}

interface HeldEvent extends PendingEvent {
  readonly watch: StoreWatch;
}

/**
 * The way of an event from the connection whose request causes it to the one that hears it (connection.ml): through a
 * queue of the causing connection, a queue of the watch with room for `capacity`, into the output of the hearing
 * connection, each as far as there is room. What the causing connection cannot pass on stops its own input. What
 * waits in the queue of a watch goes on only when the next event for that watch comes: as in oxenstored, where a watcher
 * that slept may never hear of the last changes.
 */
export class OxEventPipes {
  readonly #capacity: () => number;
  readonly #ofWatch = new Map<StoreWatch, PendingEvent[]>();
  readonly #ofSource = new Map<StoreConnection, HeldEvent[]>();

  constructor(capacity: () => number) {
    this.#capacity = capacity;
  }

  /** Sends an event; `source` is undefined when nobody's request caused it. */
  push(source: StoreConnection | undefined, watch: StoreWatch, path: string, cause: unknown): void {
    const waiting = source === undefined ? undefined : this.#ofSource.get(source);
    if (waiting === undefined && this.#offer(watch, path, cause)) return;
    if (source === undefined) return;
    if (waiting === undefined) this.#ofSource.set(source, [{ watch, path, cause }]);
    else waiting.push({ watch, path, cause });
    source.heldEventCount += 1;
    watch.owner.onEventRoom = () => this.#flushSources();
  }

  dropWatch(watch: StoreWatch): void {
    this.#ofWatch.delete(watch);
  }

  dropSource(source: StoreConnection): void {
    this.#ofSource.delete(source);
    source.heldEventCount = 0;
  }

  #flushSources(): void {
    for (const [source, events] of this.#ofSource) {
      while (events.length > 0) {
        const { watch, path, cause } = events[0]!;
        const isGone = !watch.owner.watches.has(`${watch.path}\0${watch.token}`);
        if (!isGone && !this.#offer(watch, path, cause)) break;
        events.shift();
        source.heldEventCount -= 1;
      }
      if (events.length === 0) this.#ofSource.delete(source);
    }
  }

  /** Into the watch's queue, and from there as far as possible; false if the queue is full. */
  #offer(watch: StoreWatch, path: string, cause: unknown): boolean {
    const queue = this.#ofWatch.get(watch);
    if (queue === undefined) {
      if (this.#deliver(watch, path, cause)) return true;
      this.#ofWatch.set(watch, [{ path, cause }]);
      return true;
    }
    this.#drain(watch, queue);
    if (queue.length >= this.#capacity()) return false;
    queue.push({ path, cause });
    this.#drain(watch, queue);
    return true;
  }

  #drain(watch: StoreWatch, queue: PendingEvent[]): void {
    let count = 0;
    while (count < queue.length && this.#deliver(watch, queue[count]!.path, queue[count]!.cause)) count++;
    queue.splice(0, count);
    if (queue.length === 0) this.#ofWatch.delete(watch);
  }

  #deliver({ owner, token }: StoreWatch, path: string, cause: unknown): boolean {
    if (!owner.hasEventRoom()) return false;
    owner.onEvent(path, token, cause);
    return true;
  }
}
