import type {
  DescriptorChain,
  DeviceQueue,
  QueueHandOver,
  QueuePosition,
  RingSnapshot,
  RingViolation,
} from '@virtlab/vring';

/** What the data plane did on one queue, since the host was made. */
export interface DeviceQueueStatistics {
  /** Requests that the device finished. */
  readonly requests: number;
  /** Kicks that arrived while the queue was live. */
  readonly kicks: number;
  /** Rounds in which polling found the work, with no kick. */
  readonly polls: number;
  /** Calls made, and completions for which the driver wanted none. */
  readonly calls: number;
  readonly callsSuppressed: number;
}

export type DeviceQueueCounters = {
  -readonly [Name in keyof DeviceQueueStatistics]: DeviceQueueStatistics[Name];
};

/**
 * The queue that a device holds: the ring with a valve. When one queue broke, all queues of the device stop, also for
 * work that the device starts by itself; and after a reset whatever it still holds does nothing.
 */
export class HostedQueue implements DeviceQueue {
  readonly size: number;
  /** Not the device's: see `discard`. */
  readonly isDiscarded: boolean;
  readonly counters: DeviceQueueCounters;
  readonly #ring: DeviceQueue;
  readonly #onViolation: (violation: RingViolation) => void;
  #isStopped = false;
  /** Told when nothing is in flight any more, once. Nothing is popped from then on. */
  #onDrained: (() => void) | undefined;
  /** Pops and pushes, less what was undone; changes exactly when the device did something. */
  workCount = 0;

  /** `onViolation` runs once, from whichever look at the ring found it. */
  constructor(
    ring: DeviceQueue,
    counters: DeviceQueueCounters,
    onViolation: (violation: RingViolation) => void,
    isDiscarded = false,
  ) {
    this.size = ring.size;
    this.isDiscarded = isDiscarded;
    this.counters = counters;
    this.#ring = ring;
    this.#onViolation = onViolation;
  }

  stop(): void {
    this.#isStopped = true;
    this.#onDrained?.();
  }

  /**
   * Pops nothing more, and lets the device finish what it has. `onDrained` runs when that is done and the driver can see
   * it: at once, or from the `publish` or `needsCall` that ends the last; on a queue that is stopped there is nothing to wait for.
   */
  drain(onDrained: () => void): void {
    this.#onDrained = onDrained;
    if (this.#isStopped) onDrained();
    else this.publish();
  }
  get isStopped(): boolean {
    return this.#isStopped;
  }

  get violation(): RingViolation | undefined {
    return this.#ring.violation;
  }
  get inFlightCount(): number {
    return this.#ring.inFlightCount;
  }

  hasAvailable(): boolean {
    return !this.#isClosed && (this.#ring.hasAvailable() || this.#nothing());
  }

  pop(): DescriptorChain | undefined {
    if (this.#isClosed) return undefined;
    const chain = this.#ring.pop();
    if (chain === undefined) this.#nothing();
    else this.workCount += 1;
    return chain;
  }

  undoPop(chain: DescriptorChain): void {
    this.workCount -= 1;
    this.#ring.undoPop(chain);
  }

  /** On a queue that is stopped the chain stays in flight until the release: whoever goes on may have been told of it. */
  push(chain: DescriptorChain, writtenSize: number): void {
    if (this.#isStopped) return;
    this.#ring.push(chain, writtenSize);
    this.workCount += 1;
    this.counters.requests += 1;
  }

  /** Gives back what the driver made available, untouched; as much as a ring holds, for a driver may go on and on. */
  discard(): void {
    for (let count = 0; count < this.size; count += 1) {
      const chain = this.pop();
      if (chain === undefined) return;
      this.push(chain, 0);
    }
  }

  publish(): void {
    if (this.#isStopped) return;
    this.#ring.publish();
    if (this.#onDrained !== undefined) this.#checkDrained(this.#onDrained);
  }
  needsCall(): boolean {
    if (this.#isStopped) return false;
    const isNeeded = this.#ring.needsCall();
    if (this.#onDrained !== undefined) this.#checkDrained(this.#onDrained);
    return isNeeded;
  }
  disableKicks(): void {
    if (!this.#isStopped) this.#ring.disableKicks();
  }
  enableKicks(): boolean {
    return !this.#isClosed && (this.#ring.enableKicks() || this.#nothing());
  }

  position(): QueuePosition {
    return this.#ring.position();
  }

  handOver(): QueueHandOver {
    return this.#ring.handOver();
  }

  release(): void {
    this.#isStopped = true;
    this.#ring.release();
  }
  snapshot(): RingSnapshot {
    return this.#ring.snapshot();
  }

  /** Nothing is popped: stopped, or draining. */
  get #isClosed(): boolean {
    return this.#isStopped || this.#onDrained !== undefined;
  }

  #checkDrained(onDrained: () => void): void {
    if (this.#ring.inFlightCount === 0) onDrained();
  }

  /** The ring gave nothing: because there is nothing, or because it just broke. */
  #nothing(): false {
    const { violation } = this.#ring;
    if (violation !== undefined && !this.#isStopped) {
      this.#isStopped = true;
      this.#onViolation(violation);
    }
    return false;
  }
}
