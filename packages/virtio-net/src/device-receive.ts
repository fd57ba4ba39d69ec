import {
  VIRTIO_NET_HDR_F_DATA_VALID,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_V1,
  VIRTIO_NET_HDR_V1_HASH,
} from '@virtlab/abi/virtio-net';
import { VIRTIO_NET_HASH_REPORT_NONE } from '@virtlab/abi/virtio-net-ctrl';
import type { DeviceActivation } from '@virtlab/virtio';
import type { DescriptorChain, DeviceQueue } from '@virtlab/vring';
import { copyRegion } from './copy-bytes.ts';
import { NO_OFFLOAD, setWord, writeOffload } from './frame-offload.ts';
import type { FrameView } from './network.ts';
import { NotificationCoalescer } from './notification-coalescer.ts';
import { FIRST_PORTION, nextPortion } from './publish-portions.ts';

/** What became of a frame. */
export const RECEIVE_OK = 0;
/** The driver has no buffer there, or too few of them. */
export const RECEIVE_NO_BUFFER = 1;
/** The driver's next buffer cannot hold the frame, and frames may not be spread. */
export const RECEIVE_SHORT_BUFFER = 2;
/** The driver broke a rule; the device needs reset. */
export const RECEIVE_BROKEN = 3;

// V8 folds a module's own constants into optimized code, but loads imported and exported ones from their cells.
const OK = RECEIVE_OK;
const NO_BUFFER = RECEIVE_NO_BUFFER;
const NOTHING = NO_OFFLOAD;
const HASH_NONE = VIRTIO_NET_HASH_REPORT_NONE;
const WORD_SIZE = 4;
const WORD_SHIFT = 2;

/** What was negotiated, as far as the receive queues care. */
export interface ReceiveFormat {
  /** Bytes of the header: 12, or 20 with HASH_REPORT. */
  readonly headerSize: number;
  /** MRG_RXBUF. */
  readonly isMerging: boolean;
  /** GUEST_CSUM: the flags of the header mean something. */
  readonly hasFlags: boolean;
}

/**
 * A receive queue of a live device (§5.1.9.4): frames go from where they lie into the driver's buffers, which the
 * driver sees at the end of the batch, or a little earlier if the batch is long.
 */
export class DeviceReceiver {
  readonly coalescer: NotificationCoalescer;
  readonly #activation: DeviceActivation;
  readonly #queueIndex: number;
  readonly #format: ReceiveFormat;
  readonly #headerSize: number;
  readonly #header: Uint8Array;
  /** The header of a finished frame in one buffer, without a hash. */
  readonly #plainHeader: Int32Array;
  #isHeaderPlain = true;
  /** Chains of the frame at hand. */
  readonly #chains: (DescriptorChain | undefined)[] = [];
  #unpublishedCount = 0;
  #portion = FIRST_PORTION;
  #frameCount = 0;

  constructor(activation: DeviceActivation, queueIndex: number, format: ReceiveFormat) {
    this.#activation = activation;
    this.#queueIndex = queueIndex;
    this.#format = format;
    this.#headerSize = format.headerSize;
    this.#header = new Uint8Array(format.headerSize);
    const plain = new Uint8Array(format.headerSize);
    setWord(plain, VIRTIO_NET_HDR_V1.offset.num_buffers, 1);
    this.#plainHeader = new Int32Array(plain.buffer);
    this.coalescer = new NotificationCoalescer(activation.aio, () => activation.complete(queueIndex));
  }

  /** Whether there is any buffer: a hint, a frame may need several. */
  get hasBuffers(): boolean {
    return this.#activation.queues[this.#queueIndex]?.hasAvailable() ?? false;
  }

  /** `RECEIVE_*`. The hash goes into the header if it has room for it. */
  put(frame: FrameView, hash: number, hashReport: number): number {
    const queue = this.#activation.queues[this.#queueIndex];
    if (queue === undefined) return NO_BUFFER;
    const chain = queue.pop();
    if (chain === undefined) return NO_BUFFER;
    const headerSize = this.#headerSize;
    // §5.1.9.3.1: a receive buffer takes at least the header, and the device reads nothing there.
    if (chain.readableSize !== 0 || chain.writableSize < headerSize) return this.#refuse(chain);
    const needed = headerSize + frame.size;
    if (chain.writableSize < needed) return this.#spread(queue, chain, frame, hash, hashReport);
    if (frame.offload !== NOTHING || hashReport !== HASH_NONE || !this.#fillPlain(chain, frame, needed)) {
      this.#writeHeader(frame, 1, hash, hashReport);
      chain.write(0, this.#header);
      scatter(frame, chain, -headerSize, needed);
    }
    queue.push(chain, needed);
    this.#account(queue, 1);
    return OK;
  }

  /** Ends a batch. */
  flush(): void {
    if (this.#frameCount === 0) return;
    const count = this.#frameCount;
    this.#frameCount = 0;
    this.#unpublishedCount = 0;
    this.#portion = FIRST_PORTION;
    if (this.coalescer.add(count)) this.#activation.complete(this.#queueIndex);
    else this.#activation.queues[this.#queueIndex]?.publish();
  }

  /** The queue was reset, or the device was. */
  stop(): void {
    this.#frameCount = 0;
    this.#unpublishedCount = 0;
    this.#portion = FIRST_PORTION;
    this.coalescer.cancel();
  }

  /** §5.1.9.4.1: without MRG_RXBUF num_buffers is 1; without GUEST_CSUM flags are zero. */
  #writeHeader({ offload }: FrameView, count: number, hash: number, hashReport: number): void {
    const header = this.#header;
    const isPlain = offload.flags === 0 && offload.gsoType === 0;
    if (!isPlain || !this.#isHeaderPlain) {
      writeOffload(offload, header, 0);
      const needsCsum = offload.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM;
      const flags = needsCsum || offload.flags & VIRTIO_NET_HDR_F_DATA_VALID;
      header[VIRTIO_NET_HDR_V1.offset.flags] = this.#format.hasFlags ? flags : 0;
      this.#isHeaderPlain = isPlain;
    }
    setWord(header, VIRTIO_NET_HDR_V1.offset.num_buffers, count);
    if (header.length < VIRTIO_NET_HDR_V1_HASH.size) return;
    const { hash_value, hash_report } = VIRTIO_NET_HDR_V1_HASH.offset;
    setWord(header, hash_value, hash);
    setWord(header, hash_value + 2, hash >>> 16);
    setWord(header, hash_report, hashReport);
  }

  /** A finished frame without a hash into a buffer in one piece, as mostly; false for any other buffer. */
  #fillPlain({ segments, regions }: DescriptorChain, frame: FrameView, needed: number): boolean {
    const to = segments.offset[0]!;
    if (segments.size[0]! < needed || (to & (WORD_SIZE - 1)) !== 0) return false;
    const region = regions[segments.region[0]!]!;
    const words = this.#plainHeader;
    const first = to >>> WORD_SHIFT;
    for (let i = 0; i < words.length; i += 1) region.i32[first + i] = words[i]!;
    const at = to + this.#headerSize;
    const { memory, size } = frame;
    if (memory === undefined) frame.copy(0, size, region.u8, at);
    else copyRegion(memory, frame.start ?? 0, region, at, size);
    return true;
  }

  /** A frame that is longer than the first buffer: on over as many as it takes, if that was agreed on. */
  #spread(
    queue: DeviceQueue,
    first: DescriptorChain,
    frame: FrameView,
    hash: number,
    hashReport: number,
  ): number {
    const chains = this.#chains;
    const needed = this.#headerSize + frame.size;
    chains[0] = first;
    if (!this.#format.isMerging) return this.#giveBack(queue, 1, RECEIVE_SHORT_BUFFER);
    let room = first.writableSize;
    let count = 1;
    for (; room < needed; count += 1) {
      const chain = queue.pop();
      if (chain === undefined) return this.#giveBack(queue, count, NO_BUFFER);
      if (chain.readableSize !== 0 || chain.writableSize < this.#headerSize) return this.#refuse(chain);
      chains[count] = chain;
      room += chain.writableSize;
    }
    this.#writeHeader(frame, count, hash, hashReport);
    this.#fill(queue, frame, count);
    return OK;
  }

  /** One header, in the first buffer. */
  #fill(queue: DeviceQueue, frame: FrameView, count: number): void {
    this.#chains[0]!.write(0, this.#header);
    let at = -this.#headerSize;
    for (let index = 0; index < count; index += 1) {
      const chain = this.#chains[index]!;
      this.#chains[index] = undefined;
      const size = Math.min(chain.writableSize, frame.size - at);
      scatter(frame, chain, at, size);
      at += size;
      queue.push(chain, size);
    }
    this.#account(queue, count);
  }

  #account(queue: DeviceQueue, bufferCount: number): void {
    this.#frameCount += 1;
    this.#unpublishedCount += bufferCount;
    if (this.#unpublishedCount < this.#portion) return;
    this.#unpublishedCount = 0;
    this.#portion = nextPortion(this.#portion);
    queue.publish();
  }

  /** As if nothing had been popped, for the next frame; latest first, as `undoPop` wants. */
  #giveBack(queue: DeviceQueue, count: number, outcome: number): number {
    for (let index = count - 1; index >= 0; index -= 1) {
      queue.undoPop(this.#chains[index]!);
      this.#chains[index] = undefined;
    }
    return outcome;
  }

  #refuse(chain: DescriptorChain): number {
    const message =
      `virtio-net receive buffer at head 0x${chain.head.toString(16)} has 0x${chain.readableSize.toString(16)} ` +
      `readable and 0x${chain.writableSize.toString(16)} writable bytes; 0 and at least ${this.#format.headerSize} are due`;
    this.#chains.fill(undefined);
    this.#activation.fail({ section: '5.1.9.3', message });
    return RECEIVE_BROKEN;
  }
}

/** Copies frame bytes `[at, at + size)` into a chain's writable part; those before byte 0 are the header, left alone. */
function scatter(frame: FrameView, chain: DescriptorChain, at: number, size: number): void {
  const { segments, regions } = chain;
  const end = at + size;
  let position = at;
  for (let index = chain.readableCount; position < end; index += 1) {
    const segmentEnd = Math.min(position + segments.size[index]!, end);
    const from = Math.max(position, 0);
    if (segmentEnd > from) {
      const target = segments.offset[index]! + (from - position);
      frame.copy(from, segmentEnd - from, regions[segments.region[index]!]!.u8, target);
    }
    position = segmentEnd;
  }
}
