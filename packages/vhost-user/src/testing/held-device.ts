import type { FeatureBits } from '@virtlab/abi/brands';
import {
  ALL_RING_FEATURES,
  type DescriptorChain,
  type DeviceActivation,
  type VirtioDevice,
} from '@virtlab/virtio';

/** A type of device that no document has. */
const DEVICE_TYPE = 63;
const MARK = 0xa5;

interface Held {
  readonly queue: number;
  readonly chain: DescriptorChain;
  readonly tag: number;
  readonly activation: DeviceActivation | undefined;
}

/** Keeps what it takes until it is told to finish it, and remembers what it did, by the first byte of each request. */
export class HeldDevice implements VirtioDevice {
  readonly deviceType: number = DEVICE_TYPE;
  readonly features: FeatureBits = ALL_RING_FEATURES;
  readonly queueSizesMax: readonly number[];
  /** To be set before a host sees it. */
  discardedWhenDisabled: readonly number[] = [];
  readonly configSize: number = 16;
  readonly config: Uint8Array = Uint8Array.from({ length: 16 }, (_, at) => at + 1);
  /** First bytes of requests in the order in which they were taken, and finished. */
  readonly taken: number[] = [];
  readonly finished: number[] = [];
  /** Finishes at once what comes. */
  isPrompt = false;
  resetCount = 0;
  activation: DeviceActivation | undefined = undefined;
  #held: Held[] = [];

  constructor(queueCount = 2, queueSize = 16) {
    this.queueSizesMax = Array.from({ length: queueCount }, () => queueSize);
  }

  get heldCount(): number {
    return this.#held.length;
  }

  readConfig(offset: number, out: Uint8Array): void {
    out.set(this.config.subarray(offset, offset + out.length));
  }
  writeConfig(offset: number, bytes: Uint8Array): void {
    this.config.set(bytes, offset);
  }

  activate(activation: DeviceActivation): void {
    this.activation = activation;
  }

  processQueue(queue: number): void {
    this.#take(queue, this.activation);
  }

  /** The same device for one more host: what comes there is taken, held and finished here. */
  facet(): VirtioDevice & { activation: DeviceActivation | undefined } {
    const { deviceType, features, queueSizesMax, discardedWhenDisabled, configSize } = this;
    const take = (queue: number, activation: DeviceActivation | undefined): void =>
      this.#take(queue, activation);
    const drop = (isDropped: (held: Held) => boolean): void => this.#drop(isDropped);
    return {
      deviceType,
      features,
      queueSizesMax,
      discardedWhenDisabled,
      configSize,
      activation: undefined,
      readConfig: (offset, out) => this.readConfig(offset, out),
      writeConfig: (offset, bytes) => this.writeConfig(offset, bytes),
      activate(activation) {
        this.activation = activation;
      },
      processQueue(queue) {
        take(queue, this.activation);
      },
      resetQueue(queue) {
        drop((held) => held.queue === queue);
      },
      reset() {
        const gone = this.activation;
        drop(({ activation }) => activation === gone);
        this.activation = undefined;
      },
    };
  }

  #take(queue: number, activation: DeviceActivation | undefined): void {
    const ring = activation?.queues[queue];
    for (let chain = ring?.pop(); chain !== undefined; chain = ring?.pop()) {
      const tag = chain.readU8(0);
      this.taken.push(tag);
      this.#held.push({ queue, chain, tag, activation });
    }
    if (this.isPrompt) this.finish();
  }

  #drop(isDropped: (held: Held) => boolean): void {
    this.#held = this.#held.filter((held) => !isDropped(held));
  }

  /** Finishes requests by tag in the order given; without, all that it has. */
  finish(...tags: readonly number[]): void {
    const due =
      tags.length === 0 ? this.#held : tags.map((tag) => this.#held.find((each) => each.tag === tag)!);
    this.#held = this.#held.filter((each) => !due.includes(each));
    const queues = new Map<number, DeviceActivation | undefined>();
    for (const { queue, chain, tag, activation } of due) {
      chain.write(0, Uint8Array.of(tag ^ MARK));
      activation?.queues[queue]?.push(chain, 1);
      this.finished.push(tag);
      queues.set(queue, activation);
    }
    for (const [queue, activation] of queues) activation?.complete(queue);
  }

  resetQueue(queue: number): void {
    this.#drop((held) => held.queue === queue);
  }

  reset(): void {
    this.resetCount += 1;
    const gone = this.activation;
    this.#drop(({ activation }) => activation === gone);
    this.activation = undefined;
  }
}

/** What the device answers to a request whose first byte is `tag`. */
export function answerTo(tag: number): number {
  return tag ^ MARK;
}
