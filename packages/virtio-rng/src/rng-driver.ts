/** Driver of an entropy device: VIRTIO §5.4. */
import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_RNG_REQUESTQ } from '@virtlab/abi/virtio-rng';
import type { AioContext } from '@virtlab/aio';
import {
  RING_FEATURES,
  TransportError,
  initializeDevice,
  type DriverLink,
  type DriverSession,
} from '@virtlab/virtio';
import { createBufferList, type BufferList } from '@virtlab/vring';

const SLOT_COUNT = 8;
const SLOT_SIZE = 4096;

interface Read extends PromiseWithResolvers<number> {
  readonly bytes: Uint8Array;
}

export interface RngDriverOptions {
  readonly aio: AioContext;
  /** Of `ALL_RING_FEATURES`, what to accept. Default `RING_FEATURES`. */
  readonly ringFeatures?: FeatureBits;
}

/** Brings the device up. Rejects as `initializeDevice` does. `link` stays the caller's. */
export async function createRngDriver(
  link: DriverLink,
  { aio, ringFeatures = RING_FEATURES }: RngDriverOptions,
): Promise<RngDriver> {
  const session = await initializeDevice(link, { aio, wanted: ringFeatures, queueCount: 1 });
  try {
    return new RngDriver(session);
  } catch (error) {
    await session.stop();
    throw error;
  }
}

export class RngDriver implements AsyncDisposable {
  readonly session: DriverSession;
  readonly #buffers: BufferList = createBufferList();
  readonly #base: number;
  /** By slot, which is the request's token. */
  readonly #active: (Read | undefined)[] = Array.from({ length: SLOT_COUNT }, () => undefined);
  #waiting: Read[] = [];
  #stopping: Promise<void> | undefined;

  constructor(session: DriverSession) {
    this.session = session;
    this.#base = session.link.dma.allocate(SLOT_COUNT * SLOT_SIZE);
    session.onCall(VIRTIO_RNG_REQUESTQ, () => this.#collect());
    session.onBroken((reason) => this.#fail(reason));
  }

  /**
   * Fills the beginning of `bytes`: resolves to how many, at least 1 and at most 4096 (0 only for an empty `bytes`).
   * Reads complete in any order. Rejects with `TransportError`: `ENODEV` when the device stopped or no buffer can be lent, `EIO` when it gave
   * nothing.
   */
  read(bytes: Uint8Array): Promise<number> {
    const broken = this.#stopping === undefined ? this.session.broken : 'stopped';
    if (broken !== undefined) return Promise.reject(new TransportError('ENODEV', broken));
    if (bytes.length === 0) return Promise.resolve(0);
    const read: Read = { bytes, ...Promise.withResolvers<number>() };
    this.#waiting.push(read);
    this.#submit();
    return read.promise;
  }

  /** Ends all reads with `ENODEV`, resets the device and takes the memory back. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #stop(): Promise<void> {
    const stopping = this.session.stop();
    this.#fail('stopped');
    await stopping;
    this.session.link.dma.free(this.#base, SLOT_COUNT * SLOT_SIZE);
  }

  #submit(): void {
    const ring = this.session.queues[VIRTIO_RNG_REQUESTQ]!;
    for (let slot = 0; slot < SLOT_COUNT && this.#waiting.length > 0; slot += 1) {
      if (this.#active[slot] !== undefined) continue;
      this.#buffers.clear();
      this.#buffers.addWritable(
        this.#base + slot * SLOT_SIZE,
        Math.min(this.#waiting[0]!.bytes.length, SLOT_SIZE),
      );
      if (ring.add(this.#buffers, slot) !== 0) break;
      this.#active[slot] = this.#waiting.shift();
    }
    // Nothing in flight, so nothing will free what it takes to lend a buffer.
    if (this.#active.every((read) => read === undefined)) this.#fail('no buffer can be lent');
    this.session.kick(VIRTIO_RNG_REQUESTQ);
  }

  #collect(): void {
    const ring = this.session.queues[VIRTIO_RNG_REQUESTQ]!;
    const { u8 } = this.session.link.dma.memory;
    for (let slot = ring.popUsed(); slot >= 0; slot = ring.popUsed()) {
      const read = this.#active[slot]!;
      this.#active[slot] = undefined;
      const offset = this.#base + slot * SLOT_SIZE;
      read.bytes.set(u8.subarray(offset, offset + ring.usedSize));
      if (ring.usedSize > 0) read.resolve(ring.usedSize);
      else read.reject(new TransportError('EIO', 'The device gave no bytes (VIRTIO §5.4.6.2)'));
    }
    if (this.#waiting.length > 0) this.#submit();
  }

  #fail(reason: string): void {
    const reads = [...this.#active.filter((read) => read !== undefined), ...this.#waiting];
    this.#active.fill(undefined);
    this.#waiting = [];
    for (const read of reads) read.reject(new TransportError('ENODEV', reason));
  }
}
