import type { DeviceQueue } from '@virtlab/vring';
import { BoundedSpin } from '../bounded-spin.ts';
import type { BlockingBell } from './blocking-bell.ts';
import { BATCH_COUNT, BUFFER_SIZE } from './shared-ring.ts';

/** What the device does with a ring. Each checks what it is given, so that a buffer lost, doubled or out of order is found. */
export interface DeviceSide {
  /** Takes what is available and publishes it; how many. `ring` is called when the driver asks to be called on the way. */
  serve(ring: () => void): number;
}

/** Even buffers carry a number to the device, odd ones carry one back. */
export class NumbersDevice implements DeviceSide {
  readonly #queue: DeviceQueue;
  #seen = 0;

  constructor(queue: DeviceQueue) {
    this.#queue = queue;
  }

  /** Publishes in batches, the last one included; never calls on the way. */
  serve(): number {
    const queue = this.#queue;
    let count = 0;
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      const isForDevice = (this.#seen & 1) === 0;
      if (isForDevice ? chain.readU32(0) !== this.#seen : !chain.writeU32(0, this.#seen)) {
        throw new Error(`Buffer ${this.#seen} is not the one that was sent`);
      }
      this.#seen = (this.#seen + 1) >>> 0;
      queue.push(chain, isForDevice ? 0 : BUFFER_SIZE);
      count += 1;
      if (count % BATCH_COUNT === 0) queue.publish();
    }
    if (queue.violation !== undefined) throw new Error(queue.violation.message);
    queue.publish();
    return count;
  }
}

/** Gives each buffer back as it is, with one byte less; asks about a call for each if it sleeps. */
export class RingtestDevice implements DeviceSide {
  readonly #queue: DeviceQueue;
  readonly #isSleeping: boolean;

  constructor(queue: DeviceQueue, isSleeping: boolean) {
    this.#queue = queue;
    this.#isSleeping = isSleeping;
  }

  serve(ring: () => void): number {
    const queue = this.#queue;
    let count = 0;
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      queue.push(chain, chain.writableSize - 1);
      if (!this.#isSleeping) queue.publish();
      else if (queue.needsCall()) ring();
      count += 1;
    }
    if (queue.violation !== undefined) throw new Error(queue.violation.message);
    return count;
  }
}

/** Takes 4 bytes and gives them back in the next one; asks about a call when there is nothing left. */
export class TransferDevice implements DeviceSide {
  readonly #queue: DeviceQueue;
  #word = 0;

  constructor(queue: DeviceQueue) {
    this.#queue = queue;
  }

  serve(ring: () => void): number {
    const queue = this.#queue;
    let count = 0;
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      const isForDevice = chain.readableSize > 0;
      if (isForDevice) this.#word = chain.readU32(0);
      else if (!chain.writeU32(0, this.#word)) throw new Error('A transfer is too short');
      queue.push(chain, isForDevice ? 0 : BUFFER_SIZE);
      queue.publish();
      count += 1;
    }
    if (queue.violation !== undefined) throw new Error(queue.violation.message);
    if (queue.needsCall()) ring();
    return count;
  }
}

/** Serves so many buffers without sleeping. */
export function servePolling(queue: DeviceQueue, side: DeviceSide, count: number): void {
  const spin = new BoundedSpin();
  for (let served = 0; served < count;) {
    const found = queue.hasAvailable() ? side.serve(noRing) : 0;
    served += found;
    if (found > 0) spin.progress();
    else spin.idle();
  }
}

/** Serves so many; the thread sleeps when there is nothing to do. */
export function serveBlocking(
  queue: DeviceQueue,
  side: DeviceSide,
  count: number,
  kick: BlockingBell,
  call: BlockingBell,
): void {
  const ring = (): void => call.ring();
  for (let served = 0; ;) {
    served += side.serve(ring);
    if (served === count) return;
    if (!queue.enableKicks()) kick.wait();
    queue.disableKicks();
  }
}

function noRing(): void {}
