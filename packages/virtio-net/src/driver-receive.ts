import { ETHERNET_HEADER_SIZE } from '@virtlab/abi/ethernet';
import { hasFeature } from '@virtlab/abi/virtio';
import { VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_HDR_V1 } from '@virtlab/abi/virtio-net';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { DriverSession } from '@virtlab/virtio';
import { type BufferList, type DriverQueue, createBufferList } from '@virtlab/vring';
import { copyBytes } from './copy-bytes.ts';
import type { BufferPlan } from './driver-options.ts';
import { LentBuffers } from './lent-buffers.ts';
import { NET_HEADER_SIZE, RECEIVE_QUEUE, asksForOffload, frameSizeLimit } from './protocol.ts';

/** Buffers go back to the device at least this often within one long run. */
const REFILL_PERIOD = 32;

const NO_FRAME = -1;

/**
 * The receive side of the driver. All buffers are in the ring but those of the run at hand. What the device says is read
 * once; a frame is copied into private memory before anybody looks at it, because the device could go on writing to the
 * buffer. The buffer is back in the ring soon after, whatever the handler does.
 */
export class ReceiveSide {
  readonly statistics = { rxFrames: 0, rxBytes: 0, rxDropped: 0 };
  readonly #session: DriverSession;
  readonly #queue: DriverQueue;
  readonly #memory: MemoryRegion;
  readonly #buffers: LentBuffers;
  readonly #isMerging: boolean;
  readonly #list: BufferList = createBufferList(1);
  /** Buffers that are not in the ring. */
  readonly #idle: Uint32Array;
  #idleCount = 0;
  readonly #frame: Uint8Array;
  /** `#frame`, as long as the latest frame: most frames in a row have one size. */
  #view: Uint8Array;
  #handler: ((frame: Uint8Array) => void) | undefined;

  /** @throws DmaError when there is no memory for the buffers */
  constructor(session: DriverSession, plan: BufferPlan, mtu: number) {
    const { dma } = session.link;
    this.#session = session;
    this.#queue = session.queues[RECEIVE_QUEUE]!;
    this.#memory = dma.memory;
    this.#buffers = new LentBuffers(dma, plan);
    this.#isMerging = hasFeature(session.features, VIRTIO_NET_F_MRG_RXBUF);
    this.#idle = Uint32Array.from({ length: plan.count }, (_, index) => plan.count - 1 - index);
    this.#idleCount = plan.count;
    this.#frame = new Uint8Array(frameSizeLimit(mtu));
    this.#view = this.#frame;
    this.#refill();
  }

  onFrame(handler: ((frame: Uint8Array) => void) | undefined): void {
    this.#handler = handler;
    this.#session.onCall(RECEIVE_QUEUE, handler === undefined ? undefined : this.#run);
  }

  /** Only when the device does not use the buffers any more. */
  release(): void {
    this.#buffers.release();
  }

  /** Takes at most a ringful, so that a device that fills as fast as we drain does not keep the loop. */
  readonly #run = (): void => {
    const queue = this.#queue;
    for (let taken = 0; taken < queue.size && this.#handler !== undefined; taken += 1) {
      const clampedCount = queue.clampedCount;
      const buffer = queue.popUsed();
      if (buffer < 0) break;
      const size = this.#accept(buffer, queue.usedSize, queue.clampedCount !== clampedCount);
      if (this.#idleCount >= REFILL_PERIOD) this.#refill();
      if (size === NO_FRAME) continue;
      if (size < ETHERNET_HEADER_SIZE) this.statistics.rxDropped += 1;
      else this.#deliver(size);
    }
    this.#refill();
  };

  /** Size of the frame that begins in this buffer, copied to `#frame`; 0 for one to be dropped, or `NO_FRAME`. */
  #accept(buffer: number, usedSize: number, isOverstated: boolean): number {
    this.#recycle(buffer);
    if (usedSize < NET_HEADER_SIZE) return 0;
    const { u16 } = this.#memory;
    const at = this.#buffers.offset[buffer]! >>> 1;
    const flagsAndType = u16[at]!;
    const bufferCount = this.#isMerging ? u16[at + (VIRTIO_NET_HDR_V1.offset.num_buffers >>> 1)]! : 1;
    const isOffload = asksForOffload(flagsAndType & 0xff, flagsAndType >>> 8);
    const size = this.#append(0, buffer, NET_HEADER_SIZE, usedSize);
    const total = bufferCount === 1 ? size : this.#merge(bufferCount, size);
    if (total === NO_FRAME) return NO_FRAME;
    return isOverstated || isOffload || total > this.#frame.length ? 0 : total;
  }

  /** §5.1.6.4: the frame goes on in the next `bufferCount - 1` buffers, which are used already. */
  #merge(bufferCount: number, firstSize: number): number {
    const queue = this.#queue;
    if (bufferCount === 0 || bufferCount > this.#buffers.count) {
      return this.#break(`num_buffers ${bufferCount} with ${this.#buffers.count} buffers in the ring`);
    }
    let total = firstSize;
    let isOverstated = false;
    for (let index = 1; index < bufferCount; index += 1) {
      const clampedCount = queue.clampedCount;
      const buffer = queue.popUsed();
      if (buffer < 0) return this.#break(`num_buffers ${bufferCount}, of which ${index} are used`);
      if (queue.clampedCount !== clampedCount) isOverstated = true;
      total = this.#append(total, buffer, 0, queue.usedSize);
      this.#recycle(buffer);
    }
    return isOverstated ? 0 : total;
  }

  /** Copies bytes `[from, to)` of a buffer behind `total`, unless the frame is too long by then; the size then. */
  #append(total: number, buffer: number, from: number, to: number): number {
    const end = total + to - from;
    if (end <= this.#frame.length) {
      copyBytes(this.#memory.u8, this.#buffers.offset[buffer]! + from, this.#frame, total, to - from);
    }
    return end;
  }

  #deliver(size: number): void {
    this.statistics.rxFrames += 1;
    this.statistics.rxBytes += size;
    if (this.#view.length !== size) this.#view = this.#frame.subarray(0, size);
    this.#handler?.(this.#view);
  }

  #recycle(buffer: number): void {
    this.#idle[this.#idleCount] = buffer;
    this.#idleCount += 1;
  }

  #refill(): void {
    if (this.#idleCount === 0) return;
    const { addressLow, addressHigh, size } = this.#buffers;
    while (this.#idleCount > 0) {
      const buffer = this.#idle[this.#idleCount - 1]!;
      this.#list.clear();
      this.#list.addCoherentWritable(addressLow[buffer]!, addressHigh[buffer]!, size);
      if (this.#queue.add(this.#list, buffer) !== 0) break;
      this.#idleCount -= 1;
    }
    this.#session.kick(RECEIVE_QUEUE);
  }

  /** The frame's end is unknown, and so is the start of the next one. */
  #break(message: string): typeof NO_FRAME {
    this.#queue.markBroken({ section: '5.1.6.4', message: `The device says ${message}` });
    return NO_FRAME;
  }
}
