import { ETHERNET_HEADER_SIZE } from '@virtlab/abi/ethernet';
import { hasFeature } from '@virtlab/abi/virtio';
import {
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_HDR_F_DATA_VALID,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_V1,
  VIRTIO_NET_HDR_V1_HASH,
} from '@virtlab/abi/virtio-net';
import { type MemoryRegion, memoryRegion } from '@virtlab/guest-memory';
import type { DriverSession } from '@virtlab/virtio';
import { type BufferList, type DriverQueue, createBufferList } from '@virtlab/vring';
import { copyBytes, copyRegion } from './copy-bytes.ts';
import type { BufferPlan } from './driver-options.ts';
import { OffloadWords } from './frame-offload.ts';
import { BytesFrame } from './frame-views.ts';
import { LentBuffers } from './lent-buffers.ts';
import { OffloadCheck } from './offload-check.ts';
import { UNFINISHED_FRAME_SIZE_MAX, frameSizeLimit } from './protocol.ts';

/** Buffers go back to the device at least this often within one long run. */
const REFILL_PERIOD = 32;

const NO_FRAME = -1;

/** What the device said of a frame. The same object each time: valid during the call. */
export interface ReceivedFrame {
  /** What is left to do; `flags` may have DATA_VALID. */
  readonly offload: OffloadWords;
  /** With HASH_REPORT: the hash and VIRTIO_NET_HASH_REPORT_*; else 0. */
  readonly hash: number;
  readonly hashReport: number;
  /** The pair of queues that it came on. */
  readonly pair: number;
}

export type FrameHandler = (frame: Uint8Array, info: ReceivedFrame) => void;

export interface ReceiveSettings {
  readonly plan: BufferPlan;
  readonly mtu: number;
  readonly headerSize: number;
  /** `ACCEPT_*` as negotiated. */
  readonly accept: number;
}

/**
 * The receive side of the driver, one queue. All buffers are in the ring but those of the run at hand. What the device says is
 * read once; a frame is copied into private memory before anybody looks at it, because the device could go on writing to the
 * buffer. The buffer is back in the ring soon after, whatever the handler does.
 */
export class ReceiveSide {
  readonly statistics = { rxFrames: 0, rxBytes: 0, rxDropped: 0 };
  readonly #session: DriverSession;
  readonly #queueIndex: number;
  #queue: DriverQueue;
  readonly #memory: MemoryRegion;
  readonly #buffers: LentBuffers;
  readonly #isMerging: boolean;
  readonly #headerSize: number;
  readonly #accept: number;
  readonly #finishedSizeMax: number;
  readonly #list: BufferList = createBufferList(1);
  /** Buffers that are not in the ring. */
  readonly #idle: Uint32Array;
  #idleCount = 0;
  readonly #frame: MemoryRegion;
  /** Bytes of the longest frame there may be. */
  readonly #frameRoom: number;
  /** `#frame`, as long as the latest frame: most frames in a row have one size. */
  #view: Uint8Array;
  readonly #frameView = new BytesFrame();
  readonly #header: Uint8Array;
  readonly #check = new OffloadCheck();
  readonly #info: { offload: OffloadWords; hash: number; hashReport: number; pair: number };
  #isPlain = true;
  /** Of the queue, as it was last time. */
  #clampedCount = 0;
  #handler: FrameHandler | undefined;
  #batchEnd: (() => void) | undefined;

  /** @throws DmaError when there is no memory for the buffers */
  constructor(
    session: DriverSession,
    queueIndex: number,
    { plan, mtu, headerSize, accept }: ReceiveSettings,
  ) {
    const { dma } = session.link;
    this.#session = session;
    this.#queueIndex = queueIndex;
    this.#queue = session.queues[queueIndex]!;
    this.#memory = dma.memory;
    this.#buffers = new LentBuffers(dma, plan);
    this.#isMerging = hasFeature(session.features, VIRTIO_NET_F_MRG_RXBUF);
    this.#headerSize = headerSize;
    this.#accept = accept;
    this.#finishedSizeMax = frameSizeLimit(mtu);
    this.#idle = Uint32Array.from({ length: plan.count }, (_, index) => plan.count - 1 - index);
    this.#idleCount = plan.count;
    this.#frameRoom = Math.max(this.#finishedSizeMax, accept === 0 ? 0 : UNFINISHED_FRAME_SIZE_MAX);
    this.#frame = memoryRegion(new ArrayBuffer(Math.ceil(this.#frameRoom / 8) * 8));
    this.#view = this.#frame.u8;
    this.#header = new Uint8Array(headerSize);
    this.#info = { offload: new OffloadWords(), hash: 0, hashReport: 0, pair: queueIndex >>> 1 };
    this.#refill();
  }

  onFrame(handler: FrameHandler | undefined, batchEnd?: () => void): void {
    this.#handler = handler;
    this.#batchEnd = batchEnd;
    this.#session.onCall(this.#queueIndex, handler === undefined ? undefined : this.#run);
  }

  /** The queue is about to be reset alone; `recycle` is for what it held, `resume` for after. */
  recycle(buffer: number): void {
    this.#idle[this.#idleCount] = buffer;
    this.#idleCount += 1;
  }
  resume(queue: DriverQueue): void {
    this.#queue = queue;
    this.#clampedCount = 0;
    this.#refill();
  }

  /** Only when the device does not use the buffers any more. */
  release(): void {
    this.#buffers.release();
  }

  /** Takes at most a ringful, so that a device that fills as fast as we drain does not keep the loop. */
  readonly #run = (): void => {
    const queue = this.#queue;
    for (let taken = 0; taken < queue.size && this.#handler !== undefined; taken += 1) {
      const buffer = queue.popUsed();
      if (buffer < 0) break;
      const size = this.#accepted(buffer, queue.usedSize);
      if (this.#idleCount >= REFILL_PERIOD) this.#refill();
      if (size === NO_FRAME) continue;
      if (size < ETHERNET_HEADER_SIZE) this.statistics.rxDropped += 1;
      else this.#deliver(size);
    }
    this.#refill();
    this.#batchEnd?.();
  };

  /** Size of the frame that begins in this buffer, copied to `#frame`; 0 for one to be dropped, or `NO_FRAME`. */
  #accepted(buffer: number, usedSize: number): number {
    this.recycle(buffer);
    const headerSize = this.#headerSize;
    const isOverstated = this.#isOverstated(usedSize);
    if (usedSize < headerSize) return 0;
    const offset = this.#buffers.offset[buffer]!;
    const bufferCount = this.#readHeader(offset);
    const size = usedSize - headerSize;
    if (size <= this.#frameRoom) copyRegion(this.#memory, offset + headerSize, this.#frame, 0, size);
    const total = bufferCount === 1 ? size : this.#merge(bufferCount, size);
    if (total === NO_FRAME) return NO_FRAME;
    return isOverstated || total > this.#frameRoom || !this.#passes(total) ? 0 : total;
  }

  /** Whether the device said more than the buffer holds, of which the ring makes the buffer's size. */
  #isOverstated(usedSize: number): boolean {
    if (usedSize !== this.#buffers.size) return false;
    const { clampedCount } = this.#queue;
    if (clampedCount === this.#clampedCount) return false;
    this.#clampedCount = clampedCount;
    return true;
  }

  /** Reads each word once; `num_buffers`. */
  #readHeader(offset: number): number {
    const { u16 } = this.#memory;
    const at = offset >>> 1;
    const flagsAndType = u16[at]!;
    const bufferCount = this.#isMerging ? u16[at + (VIRTIO_NET_HDR_V1.offset.num_buffers >>> 1)]! : 1;
    const isPlain = flagsAndType === 0;
    if (isPlain && this.#isPlain && this.#headerSize < VIRTIO_NET_HDR_V1_HASH.size) return bufferCount;
    const header = this.#header;
    copyBytes(this.#memory.u8, offset, header, 0, header.length);
    header[0] = flagsAndType;
    header[1] = flagsAndType >>> 8;
    const info = this.#info;
    if (isPlain) info.offload.clear();
    else info.offload.read(header, 0);
    // §5.1.9.4.2: flags that are not known mean nothing.
    info.offload.flags &=
      VIRTIO_NET_HDR_F_NEEDS_CSUM | (this.#accept === 0 ? 0 : VIRTIO_NET_HDR_F_DATA_VALID);
    this.#isPlain = isPlain;
    if (this.#headerSize < VIRTIO_NET_HDR_V1_HASH.size) return bufferCount;
    const { hash_value: hash, hash_report: report } = VIRTIO_NET_HDR_V1_HASH.offset;
    const low = header[hash]! | (header[hash + 1]! << 8) | (header[hash + 2]! << 16);
    info.hash = (low | (header[hash + 3]! << 24)) >>> 0;
    info.hashReport = header[report]! | (header[report + 1]! << 8);
    return bufferCount;
  }

  /** Whether the header of the frame in `#frame` makes sense. */
  #passes(size: number): boolean {
    if (this.#isPlain) return size <= this.#finishedSizeMax;
    const { offload } = this.#info;
    if (offload.gsoType === VIRTIO_NET_HDR_GSO_NONE && size > this.#finishedSizeMax) return false;
    return this.#check.pass(offload, this.#frameView.set(this.#frame.u8, 0, size), this.#accept);
  }

  /** §5.1.9.4: the frame goes on in the next `bufferCount - 1` buffers, which are used already. */
  #merge(bufferCount: number, firstSize: number): number {
    const queue = this.#queue;
    if (bufferCount === 0 || bufferCount > this.#buffers.count) {
      return this.#break(`num_buffers ${bufferCount} with ${this.#buffers.count} buffers in the ring`);
    }
    let total = firstSize;
    let isOverstated = false;
    for (let index = 1; index < bufferCount; index += 1) {
      const buffer = queue.popUsed();
      if (buffer < 0) return this.#break(`num_buffers ${bufferCount}, of which ${index} are used`);
      const { usedSize } = queue;
      if (this.#isOverstated(usedSize)) isOverstated = true;
      if (total + usedSize <= this.#frameRoom) {
        copyRegion(this.#memory, this.#buffers.offset[buffer]!, this.#frame, total, usedSize);
      }
      total += usedSize;
      this.recycle(buffer);
    }
    return isOverstated ? 0 : total;
  }

  #deliver(size: number): void {
    this.statistics.rxFrames += 1;
    this.statistics.rxBytes += size;
    if (this.#view.length !== size) this.#view = this.#frame.u8.subarray(0, size);
    this.#handler?.(this.#view, this.#info);
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
    this.#session.kick(this.#queueIndex);
  }

  /** The frame's end is unknown, and so is the start of the next one. */
  #break(message: string): typeof NO_FRAME {
    this.#queue.markBroken({ section: '5.1.9.4', message: `The device says ${message}` });
    return NO_FRAME;
  }
}
