/** Entropy device: VIRTIO §5.4. One queue of device-writable buffers, no configuration, no feature of its own. */
import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_ID_RNG } from '@virtlab/abi/virtio';
import { ALL_RING_FEATURES, type DeviceActivation, type VirtioDevice } from '@virtlab/virtio';
import { FILL_SIZE_MAX, webCryptoSource, type RandomSource } from './random-source.ts';

export interface RngDeviceOptions {
  /** Default: the platform's. */
  readonly source?: RandomSource;
}

export function createRngDevice(options: RngDeviceOptions = {}): VirtioDevice {
  return new RngDevice(options.source ?? webCryptoSource);
}

const QUEUE_SIZE_MAX = 64;

class RngDevice implements VirtioDevice {
  readonly deviceType: number = VIRTIO_ID_RNG;
  readonly features: FeatureBits = ALL_RING_FEATURES;
  readonly queueSizesMax: readonly number[] = [QUEUE_SIZE_MAX];
  readonly configSize = 0;
  readonly #source: RandomSource;
  /** The source fills private memory: what the driver lent may be written by the driver meanwhile. */
  readonly #bytes = new Uint8Array(FILL_SIZE_MAX);
  #activation: DeviceActivation | undefined;

  constructor(source: RandomSource) {
    this.#source = source;
  }

  readConfig(): void {}

  activate(activation: DeviceActivation): void {
    this.#activation = activation;
  }

  processQueue(queue: number): void {
    const activation = this.#activation;
    const ring = activation?.queues[queue];
    if (activation === undefined || ring === undefined) return;
    let doneCount = 0;
    for (let chain = ring.pop(); chain !== undefined; chain = ring.pop()) {
      if (chain.readableSize > 0) {
        const message = `Request ${chain.head} has 0x${chain.readableSize.toString(16)} device-readable bytes`;
        activation.fail({ section: '5.4.6.1', message });
        return;
      }
      // §5.4.6.2: the device may use less than the entire buffer; so one request costs a bounded time.
      const size = Math.min(chain.writableSize, FILL_SIZE_MAX);
      const bytes = this.#bytes.subarray(0, size);
      this.#source.fill(bytes);
      chain.write(0, bytes);
      ring.push(chain, size);
      doneCount += 1;
    }
    if (doneCount > 0) activation.complete(queue);
  }

  /** Nothing is kept of a queue between two calls. */
  resetQueue(): void {}

  reset(): void {
    this.#activation = undefined;
  }
}
