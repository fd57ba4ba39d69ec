import type { EventFd } from '@virtlab/linux';
import type { EventNotifier } from '../aio-context.ts';
import type { NodeAioContext } from './node-aio-context.ts';

/** The shared words and the descriptor of one doorbell; both sides name the same ones. */
export interface SharedDoorbellOptions {
  /** A view of memory that both processes map. */
  readonly words: Int32Array;
  /**
   * Index of the word `notify_me`: not 0 while the receiver sleeps or is about to. Only the receiver writes
   * it.
   */
  readonly notifyMeIndex: number;
  /** What wakes the receiver. Stays the caller's. */
  readonly eventFd: EventFd;
}

/** A doorbell between processes; see the README for why no ring is lost. */
export interface SharedDoorbell {
  /** The half that rings. */
  readonly sender: DoorbellSender;
  /**
   * The half that is woken, in one process only. `poll` looks for work with atomic loads, does it, and
   * answers whether there was any; the context calls it in every turn and while it spins. Disposing detaches
   * it.
   */
  receive(context: NodeAioContext, poll: () => boolean): Disposable;
}

export class DoorbellSender {
  readonly #words: Int32Array;
  readonly #notifyMeIndex: number;
  readonly #eventFd: EventFd;
  /** Rings that needed the system call. */
  wakeUpsSent = 0;

  constructor({ words, notifyMeIndex, eventFd }: SharedDoorbellOptions) {
    this.#words = words;
    this.#notifyMeIndex = notifyMeIndex;
    this.#eventFd = eventFd;
  }

  /**
   * Call after publishing work with an atomic store. The load is ordered after that store: both are
   * sequentially consistent.
   */
  ring(): void {
    if (Atomics.load(this.#words, this.#notifyMeIndex) === 0) return;
    // notify_me stays set: if this process dies before the write, the next sender still wakes the receiver.
    this.wakeUpsSent++;
    this.#eventFd.write();
  }
}

/** Either half of a doorbell. A new receiver finds work that was left before it came. */
export function createSharedDoorbell(options: SharedDoorbellOptions): SharedDoorbell {
  const { words, notifyMeIndex, eventFd } = options;
  return {
    sender: new DoorbellSender(options),
    receive(context, poll) {
      return context.attach({
        eventFd,
        arm: () => void Atomics.store(words, notifyMeIndex, 1),
        disarm: () => void Atomics.store(words, notifyMeIndex, 0),
        poll,
      });
    },
  };
}

export interface SharedNotifierOptions extends SharedDoorbellOptions {
  /** Index of the word that remembers a set until the receiver has seen it. */
  readonly pendingIndex: number;
}

/** An event notifier across processes. */
export interface SharedNotifier {
  /** The half that sets; any process, any number of them. */
  set(): void;
  /** The half that is told, in one process only: a notifier for `addHandler`. Disposing detaches it. */
  receive(context: NodeAioContext): EventNotifier;
}

/** An `EventNotifier` whose setter is another process: a doorbell with one word of memory of its own. */
export function createSharedNotifier(options: SharedNotifierOptions): SharedNotifier {
  const { words, pendingIndex } = options;
  const doorbell = createSharedDoorbell(options);
  return {
    set() {
      Atomics.store(words, pendingIndex, 1);
      doorbell.sender.ring();
    },
    receive(context) {
      const notifier = context.createEventNotifier(() => attached[Symbol.dispose]());
      const attached = doorbell.receive(context, () => {
        if (Atomics.load(words, pendingIndex) === 0) return false;
        // Cleared before the handler looks: a set from here on is a new one.
        Atomics.store(words, pendingIndex, 0);
        notifier.set();
        return true;
      });
      return notifier;
    },
  };
}
