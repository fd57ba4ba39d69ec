import type {
  DescriptorChain,
  DeviceQueue,
  QueueHandOver,
  QueuePosition,
  RingSnapshot,
  RingViolation,
} from '@virtlab/virtio';

/** Told of what happens on a ring, in the order in which it must be written down for whoever comes after a crash. */
export interface QueueObserver {
  /** A chain was popped and nobody has looked at it yet. */
  popped?(chain: DescriptorChain): void;
  /** It is about to be taken back. */
  undoing?(chain: DescriptorChain): void;
  /** Its used entry is about to be staged; `writtenSize` bytes were written. */
  pushing?(chain: DescriptorChain): void;
  /** What was staged is about to become visible to the driver. */
  publishing?(): void;
  /** It is; told once after each `publishing`. */
  published?(): void;
  /** The queue is let go; nothing more is told. */
  released?(): void;
}

/** Tells several, in their order. */
export function observersOf(observers: readonly QueueObserver[]): QueueObserver {
  if (observers.length === 1) return observers[0]!;
  return {
    popped(chain): void {
      for (const observer of observers) observer.popped?.(chain);
    },
    undoing(chain): void {
      for (const observer of observers) observer.undoing?.(chain);
    },
    pushing(chain): void {
      for (const observer of observers) observer.pushing?.(chain);
    },
    publishing(): void {
      for (const observer of observers) observer.publishing?.();
    },
    published(): void {
      for (const observer of observers) observer.published?.();
    },
    released(): void {
      for (const observer of observers) observer.released?.();
    },
  };
}

/** A ring with somebody looking over its shoulder: one, for every request passes here (`observersOf` makes one of several). */
export class ObservedQueue implements DeviceQueue {
  readonly #ring: DeviceQueue;
  readonly #observer: QueueObserver;
  #isStaged = false;

  constructor(ring: DeviceQueue, observer: QueueObserver) {
    this.#ring = ring;
    this.#observer = observer;
  }

  get size(): number {
    return this.#ring.size;
  }
  get violation(): RingViolation | undefined {
    return this.#ring.violation;
  }
  get inFlightCount(): number {
    return this.#ring.inFlightCount;
  }

  hasAvailable(): boolean {
    return this.#ring.hasAvailable();
  }

  pop(): DescriptorChain | undefined {
    const chain = this.#ring.pop();
    if (chain !== undefined) this.#observer.popped?.(chain);
    return chain;
  }

  undoPop(chain: DescriptorChain): void {
    this.#observer.undoing?.(chain);
    this.#ring.undoPop(chain);
  }

  push(chain: DescriptorChain, writtenSize: number): void {
    this.#observer.pushing?.(chain);
    this.#isStaged = true;
    this.#ring.push(chain, writtenSize);
  }

  publish(): void {
    if (!this.#isStaged) {
      this.#ring.publish();
      return;
    }
    this.#isStaged = false;
    this.#observer.publishing?.();
    this.#ring.publish();
    this.#observer.published?.();
  }

  needsCall(): boolean {
    this.publish();
    return this.#ring.needsCall();
  }
  disableKicks(): void {
    this.#ring.disableKicks();
  }
  enableKicks(): boolean {
    return this.#ring.enableKicks();
  }
  position(): QueuePosition {
    return this.#ring.position();
  }
  handOver(): QueueHandOver {
    return this.#ring.handOver();
  }
  release(): void {
    this.#observer.released?.();
    this.#ring.release();
  }
  snapshot(): RingSnapshot {
    return this.#ring.snapshot();
  }
}
