import type { DeviceQueue } from '@virtlab/vring';
import { BoundedSpin } from '../bounded-spin.ts';
import { BATCH_COUNT, BUFFER_SIZE } from './shared-ring.ts';

/**
 * The device of the benchmark. Even buffers carry a number to the device, odd ones carry one back; each must be the
 * next of its sequence, so that a buffer lost, doubled or out of order is found.
 */
export class DeviceSide {
  readonly #queue: DeviceQueue;
  #seen = 0;

  constructor(queue: DeviceQueue) {
    this.#queue = queue;
  }

  /** Takes what is available and publishes it in batches, the last one included; how many. */
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

  /** Serves so many buffers without sleeping. */
  poll(count: number): void {
    const spin = new BoundedSpin();
    for (let served = 0; served < count;) {
      const found = this.#queue.hasAvailable() ? this.serve() : 0;
      served += found;
      if (found > 0) spin.progress();
      else spin.idle();
    }
  }
}
