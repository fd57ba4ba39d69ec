import { ETHERNET_HEADER_SIZE } from '@virtlab/abi/ethernet';
import { VIRTIO_NET_HDR_GSO_NONE } from '@virtlab/abi/virtio-net';
import type { AioContext } from '@virtlab/aio';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { DriverSession } from '@virtlab/virtio';
import { type BufferList, type DriverQueue, type RingSnapshot, createBufferList } from '@virtlab/vring';
import { copyBytes } from './copy-bytes.ts';
import type { BufferPlan } from './driver-options.ts';
import { type FrameOffload, NO_OFFLOAD, isUnfinished, writeOffload } from './frame-offload.ts';
import { IdleBuffers } from './idle-buffers.ts';
import { LentBuffers } from './lent-buffers.ts';
import type { FrameView } from './network.ts';
import { FIRST_PORTION, nextPortion } from './publish-portions.ts';
import { TransmitWatchdog } from './transmit-watchdog.ts';

const NONE = -1;
// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const NOTHING = NO_OFFLOAD;

export interface TransmitSettings {
  readonly plan: BufferPlan;
  /** For frames that the device segments. */
  readonly unfinished: BufferPlan;
  readonly frameSizeMax: number;
  readonly headerSize: number;
  readonly aio: AioContext;
  /** 0: nobody watches. */
  readonly timeoutMs: number;
  /** No progress for so long, with this many frames in flight. */
  readonly onStuck: (queue: number, inFlightCount: number, snapshot: RingSnapshot) => void;
}

/**
 * The transmit side of the driver, one queue: one buffer a frame, small ones and, where the device segments, large ones.
 * Calls are off unless somebody waits for room; finished buffers are taken back when half of all are in flight.
 */
export class TransmitSide {
  readonly statistics = { txFrames: 0, txBytes: 0, txDropped: 0, txTimeouts: 0 };
  readonly #session: DriverSession;
  readonly #queueIndex: number;
  #queue: DriverQueue;
  readonly #memory: MemoryRegion;
  /** A token is a small buffer, or the number of small ones and a large one. */
  readonly #small: LentBuffers;
  readonly #large: LentBuffers;
  readonly #idleSmall: IdleBuffers;
  readonly #idleLarge: IdleBuffers;
  /** By token: the header in the buffer is not all zero. */
  readonly #hasHeader: Uint8Array;
  readonly #headerBytes: Uint8Array;
  readonly #frameSizeMax: number;
  readonly #headerSize: number;
  readonly #list: BufferList = createBufferList(1);
  readonly #watchdog: TransmitWatchdog | undefined;
  #stagedCount = 0;
  /** Of those, how many the device can see before the kick. */
  #shownCount = 0;
  #portion = FIRST_PORTION;
  #reserved = NONE;
  #isWaiting = false;
  #isResetting = false;
  #onWritable: (() => void) | undefined;

  /** @throws DmaError when there is no memory for the buffers */
  constructor(session: DriverSession, queueIndex: number, settings: TransmitSettings) {
    const { plan, unfinished, frameSizeMax, headerSize, timeoutMs } = settings;
    const { dma } = session.link;
    this.#session = session;
    this.#queueIndex = queueIndex;
    this.#queue = session.queues[queueIndex]!;
    this.#memory = dma.memory;
    this.#small = new LentBuffers(dma, plan);
    try {
      this.#large = new LentBuffers(dma, unfinished);
    } catch (error) {
      this.#small.release();
      throw error;
    }
    this.#idleSmall = new IdleBuffers(plan.count);
    this.#idleLarge = new IdleBuffers(unfinished.count);
    this.#hasHeader = new Uint8Array(plan.count + unfinished.count);
    this.#headerBytes = new Uint8Array(headerSize);
    this.#frameSizeMax = frameSizeMax;
    this.#headerSize = headerSize;
    if (timeoutMs > 0) {
      this.#watchdog = new TransmitWatchdog(settings.aio, timeoutMs, {
        reclaim: () => this.#reclaim(),
        inFlightCount: () => this.#queue.inFlightCount,
        stuck: () => {
          this.statistics.txTimeouts += 1;
          settings.onStuck(queueIndex, this.#queue.inFlightCount, this.#queue.snapshot());
        },
      });
    }
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
      if (!this.hasRoom(1)) return NONE;
      this.#reserved = this.#idleSmall.take();
    }
    return this.#small.offset[this.#reserved]! + this.#headerSize;
  }

  commit(size: number): void {
    const buffer = this.#reserved;
    if (buffer === NONE) throw new TypeError('commit without reserve');
    this.requireFrameSize(size);
    this.#reserved = NONE;
    if (!this.#stage(buffer, NO_OFFLOAD, size)) this.#reserved = buffer;
  }

  /** Whether so many finished frames can be staged; if not, `onWritable` follows. */
  hasRoom(count: number): boolean {
    if (this.#isResetting) return this.#wait();
    const idle = this.#idleSmall;
    // What the device is done with by now is used first: few buffers, and those are warm.
    if (this.#stagedCount === 0 || idle.count * 2 <= this.#small.count || idle.count < count) this.#reclaim();
    return idle.count >= count || this.#wait();
  }

  /** Finished frames that fit at once, at most. */
  get bufferCount(): number {
    return this.#small.count;
  }

  /** A finished frame of a size that was checked. False as `send`. */
  sendBytes(frame: Uint8Array): boolean {
    const at = this.reserve();
    if (at < 0) return false;
    copyBytes(frame, 0, this.#memory.u8, at, frame.length);
    const buffer = this.#reserved;
    this.#reserved = NONE;
    if (!this.#stage(buffer, NO_OFFLOAD, frame.length)) this.#give(buffer);
    return true;
  }

  /** False when there is no room, and `onWritable` follows. The device takes the frame as it is left, and its size was checked. */
  send(frame: FrameView): boolean {
    const isLarge = frame.size > this.#frameSizeMax || frame.offload.gsoType !== VIRTIO_NET_HDR_GSO_NONE;
    if (isLarge) return this.#sendLarge(frame);
    const at = this.reserve();
    if (at < 0) return false;
    frame.copy(0, frame.size, this.#memory.u8, at);
    const buffer = this.#reserved;
    this.#reserved = NONE;
    if (!this.#stage(buffer, frame.offload, frame.size)) this.#give(buffer);
    return true;
  }

  kick(): void {
    if (this.#stagedCount === 0) return;
    this.#beginBatch();
    // They are on at first, and the session leaves them on after the last time that somebody waited.
    if (!this.#isWaiting) this.#queue.disableCalls();
    this.#session.kick(this.#queueIndex);
    this.#watchdog?.watch();
  }

  /** Nothing moves any more; whoever waits is told. */
  fail(): void {
    this.#watchdog?.stop();
    if (!this.#isWaiting) return;
    this.#isWaiting = false;
    this.#onWritable?.();
  }

  /** The queue is being reset alone: nothing is sent until `resume`, and what it held is lost. */
  suspend(): void {
    this.#isResetting = true;
    this.#beginBatch();
    this.#watchdog?.stop();
  }
  abandon(token: number): void {
    this.statistics.txDropped += 1;
    this.#give(token);
  }
  resume(queue: DriverQueue): void {
    this.#queue = queue;
    this.#isResetting = false;
    if (this.#isWaiting) this.#look();
  }

  /** Only when the device does not use the buffers any more. */
  release(): void {
    this.#watchdog?.dispose();
    this.#small.release();
    this.#large.release();
  }

  #sendLarge(frame: FrameView): boolean {
    if (this.#isResetting) return this.#wait();
    if (this.#idleLarge.count === 0) this.#reclaim();
    if (this.#idleLarge.count === 0) return this.#wait();
    const large = this.#idleLarge.take();
    frame.copy(0, frame.size, this.#memory.u8, this.#large.offset[large]! + this.#headerSize);
    const token = this.#small.count + large;
    if (!this.#stage(token, frame.offload, frame.size)) this.#give(token);
    return true;
  }

  /** False on a broken queue: the buffer stays out of it. */
  #stage(token: number, offload: FrameOffload, size: number): boolean {
    const isLarge = token >= this.#small.count;
    const buffers = isLarge ? this.#large : this.#small;
    const buffer = isLarge ? token - this.#small.count : token;
    const hasHeader = offload !== NOTHING && isUnfinished(offload);
    if (hasHeader || this.#hasHeader[token] !== 0) {
      writeOffload(offload, this.#headerBytes, 0);
      this.#memory.u8.set(this.#headerBytes, buffers.offset[buffer]);
      this.#hasHeader[token] = hasHeader ? 1 : 0;
    }
    const { addressLow, addressHigh } = buffers;
    this.#list.clear();
    this.#list.addCoherentReadable(addressLow[buffer]!, addressHigh[buffer]!, this.#headerSize + size);
    if (this.#queue.add(this.#list, token) !== 0) {
      this.statistics.txDropped += 1;
      return false;
    }
    this.#stagedCount += 1;
    if (this.#stagedCount - this.#shownCount >= this.#portion) this.#show();
    this.statistics.txFrames += 1;
    this.statistics.txBytes += size;
    return true;
  }

  #show(): void {
    this.#shownCount = this.#stagedCount;
    this.#portion = nextPortion(this.#portion);
    this.#queue.publish();
  }

  #beginBatch(): void {
    this.#stagedCount = 0;
    this.#shownCount = 0;
    this.#portion = FIRST_PORTION;
  }

  /** Who asks again while waiting may have staged more in between: that goes out too, or nothing ever made room. */
  #wait(): false {
    if (this.#isWaiting && this.#stagedCount === 0) return false;
    this.#isWaiting = true;
    if (this.#isResetting) return false;
    this.kick();
    this.#session.onCall(this.#queueIndex, this.#look);
    return false;
  }

  /** There is room when a quarter is free: below that each frame would cost a call. */
  readonly #look = (): void => {
    this.#reclaim();
    if (!this.#isWaiting || this.#isResetting || this.#idleSmall.count * 4 < this.#small.count) return;
    if (this.#large.count > 0 && this.#idleLarge.count * 4 < this.#large.count) return;
    this.#isWaiting = false;
    this.#session.onCall(this.#queueIndex, undefined);
    this.#onWritable?.();
  };

  #reclaim(): void {
    const queue = this.#queue;
    for (let token = queue.popUsed(); token >= 0; token = queue.popUsed()) {
      this.#give(token);
      this.#watchdog?.progress();
    }
    // The session sees what a device did wrong when it looks at the queue, and it does so for a handler.
    if (queue.violation !== undefined) this.#session.onCall(this.#queueIndex, this.#look);
  }

  #give(token: number): void {
    if (token < this.#small.count) this.#idleSmall.give(token);
    else this.#idleLarge.give(token - this.#small.count);
  }
}
