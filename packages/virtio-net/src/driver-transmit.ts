import { ETHERNET_HEADER_SIZE } from '@virtlab/abi/ethernet';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { DriverSession } from '@virtlab/virtio';
import { type BufferList, type DriverQueue, createBufferList } from '@virtlab/vring';
import { copyBytes } from './copy-bytes.ts';
import type { BufferPlan } from './driver-options.ts';
import { LentBuffers } from './lent-buffers.ts';
import { NET_HEADER_SIZE, TRANSMIT_QUEUE } from './protocol.ts';

const NONE = -1;

/**
 * The transmit side of the driver: one buffer a frame, its header zero as no offload is agreed on (§5.1.6.2.1). Calls
 * are off unless somebody waits for room; finished buffers are taken back when half of all are in flight.
 */
export class TransmitSide {
  readonly statistics = { txFrames: 0, txBytes: 0, txDropped: 0 };
  readonly #session: DriverSession;
  readonly #queue: DriverQueue;
  readonly #memory: MemoryRegion;
  readonly #buffers: LentBuffers;
  readonly #frameSizeMax: number;
  readonly #list: BufferList = createBufferList(1);
  /** Buffers that are not in flight; the one used last, which is warm, is taken first. */
  readonly #idle: Uint32Array;
  #idleCount: number;
  #stagedCount = 0;
  #reserved = NONE;
  #isWaiting = false;
  #onWritable: (() => void) | undefined;

  /** @throws DmaError when there is no memory for the buffers */
  constructor(session: DriverSession, plan: BufferPlan, frameSizeMax: number) {
    const { dma } = session.link;
    this.#session = session;
    this.#queue = session.queues[TRANSMIT_QUEUE]!;
    this.#memory = dma.memory;
    this.#buffers = new LentBuffers(dma, plan);
    this.#frameSizeMax = frameSizeMax;
    this.#idle = Uint32Array.from({ length: plan.count }, (_, index) => index);
    this.#idleCount = plan.count;
  }

  onWritable(handler: (() => void) | undefined): void {
    this.#onWritable = handler;
  }

  requireFrameSize(size: number): void {
    if (size < ETHERNET_HEADER_SIZE || size > this.#frameSizeMax) {
      throw new RangeError(
        `A frame of ${size} bytes is not from ${ETHERNET_HEADER_SIZE} to ${this.#frameSizeMax}`,
      );
    }
  }

  /** Offset in the memory for the next frame, or -1. */
  reserve(): number {
    if (this.#reserved === NONE) {
      if (this.#idleCount * 2 <= this.#buffers.count) this.#reclaim();
      if (this.#idleCount === 0) {
        this.#wait();
        return NONE;
      }
      this.#idleCount -= 1;
      this.#reserved = this.#idle[this.#idleCount]!;
    }
    return this.#buffers.offset[this.#reserved]! + NET_HEADER_SIZE;
  }

  commit(size: number): void {
    const buffer = this.#reserved;
    if (buffer === NONE) throw new TypeError('commit without reserve');
    this.requireFrameSize(size);
    const { addressLow, addressHigh } = this.#buffers;
    this.#list.clear();
    this.#list.addCoherentReadable(addressLow[buffer]!, addressHigh[buffer]!, NET_HEADER_SIZE + size);
    if (this.#queue.add(this.#list, buffer) !== 0) {
      this.statistics.txDropped += 1;
      return;
    }
    this.#reserved = NONE;
    this.#stagedCount += 1;
    this.statistics.txFrames += 1;
    this.statistics.txBytes += size;
  }

  send(frame: Uint8Array): boolean {
    const at = this.reserve();
    if (at < 0) return false;
    copyBytes(frame, 0, this.#memory.u8, at, frame.length);
    this.commit(frame.length);
    return true;
  }

  kick(): void {
    if (this.#stagedCount === 0) return;
    this.#stagedCount = 0;
    // They are on at first, and the session leaves them on after the last time that somebody waited.
    if (!this.#isWaiting) this.#queue.disableCalls();
    this.#session.kick(TRANSMIT_QUEUE);
  }

  /** Nothing moves any more; whoever waits is told. */
  fail(): void {
    if (!this.#isWaiting) return;
    this.#isWaiting = false;
    this.#onWritable?.();
  }

  /** Only when the device does not use the buffers any more. */
  release(): void {
    this.#buffers.release();
  }

  #wait(): void {
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    this.kick();
    this.#session.onCall(TRANSMIT_QUEUE, this.#look);
  }

  /** There is room when a quarter is free: below that each frame would cost a call. */
  readonly #look = (): void => {
    this.#reclaim();
    if (!this.#isWaiting || this.#idleCount * 4 < this.#buffers.count) return;
    this.#isWaiting = false;
    this.#session.onCall(TRANSMIT_QUEUE, undefined);
    this.#onWritable?.();
  };

  #reclaim(): void {
    const queue = this.#queue;
    for (let buffer = queue.popUsed(); buffer >= 0; buffer = queue.popUsed()) {
      this.#idle[this.#idleCount] = buffer;
      this.#idleCount += 1;
    }
    // The session sees what a device did wrong when it looks at the queue, and it does so for a handler.
    if (queue.violation !== undefined) this.#session.onCall(TRANSMIT_QUEUE, this.#look);
  }
}
