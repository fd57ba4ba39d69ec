import { VIRTIO_NET_HDR_V1 } from '@virtlab/abi/virtio-net';
import type { DeviceActivation } from '@virtlab/virtio';
import type { DescriptorChain, DeviceQueue } from '@virtlab/vring';
import type { FrameView } from './network.ts';
import { NET_HEADER_SIZE, RECEIVE_QUEUE } from './protocol.ts';

/** Buffers become visible to the driver at least this often within one long batch. */
const PUBLISH_PERIOD = 16;

/** What became of a frame. */
export const RECEIVE_OK = 0;
/** The driver has no buffer there, or too few of them. */
export const RECEIVE_NO_BUFFER = 1;
/** The driver's next buffer cannot hold the frame, and frames may not be spread. */
export const RECEIVE_SHORT_BUFFER = 2;
/** The driver broke a rule; the device needs reset. */
export const RECEIVE_BROKEN = 3;

const NO_FLAGS = new Uint8Array(NET_HEADER_SIZE);

/**
 * The receive queue of a live device (§5.1.6.4): frames go from where they lie into the driver's buffers, which the
 * driver sees at the end of the batch, or a little earlier if the batch is long.
 */
export class DeviceReceiver {
  readonly #activation: DeviceActivation;
  readonly #queue: DeviceQueue;
  readonly #isMerging: boolean;
  /** Chains of the frame at hand. */
  readonly #chains: (DescriptorChain | undefined)[] = [];
  #unpublishedCount = 0;
  #isDirty = false;

  constructor(activation: DeviceActivation, queue: DeviceQueue, isMerging: boolean) {
    this.#activation = activation;
    this.#queue = queue;
    this.#isMerging = isMerging;
  }

  /** `RECEIVE_*`. */
  put(frame: FrameView): number {
    const needed = NET_HEADER_SIZE + frame.size;
    let room = 0;
    let count = 0;
    while (room < needed) {
      const chain = this.#queue.pop();
      if (chain === undefined) return this.#giveBack(count, RECEIVE_NO_BUFFER);
      // §5.1.6.3.1, §5.1.6.3.2: a receive buffer takes at least the header, and the device reads nothing there.
      if (chain.readableSize !== 0 || chain.writableSize < NET_HEADER_SIZE) return this.#refuse(chain);
      this.#chains[count] = chain;
      count += 1;
      room += chain.writableSize;
      if (!this.#isMerging && room < needed) return this.#giveBack(count, RECEIVE_SHORT_BUFFER);
    }
    this.#fill(frame, count);
    return RECEIVE_OK;
  }

  /** Ends a batch. */
  flush(): void {
    if (!this.#isDirty) return;
    this.#isDirty = false;
    this.#unpublishedCount = 0;
    this.#activation.complete(RECEIVE_QUEUE);
  }

  /** §5.1.6.4.1: one header, in the first buffer; without MRG_RXBUF num_buffers is 1. */
  #fill(frame: FrameView, count: number): void {
    const first = this.#chains[0]!;
    first.write(0, NO_FLAGS);
    first.writeU16(VIRTIO_NET_HDR_V1.offset.num_buffers, count);
    let at = -NET_HEADER_SIZE;
    for (let index = 0; index < count; index += 1) {
      const chain = this.#chains[index]!;
      this.#chains[index] = undefined;
      const size = Math.min(chain.writableSize, frame.size - at);
      scatter(frame, chain, at, size);
      at += size;
      this.#queue.push(chain, size);
    }
    this.#isDirty = true;
    this.#unpublishedCount += count;
    if (this.#unpublishedCount < PUBLISH_PERIOD) return;
    this.#unpublishedCount = 0;
    this.#queue.publish();
  }

  /** As if nothing had been popped, for the next frame; latest first, as `undoPop` wants. */
  #giveBack(count: number, outcome: number): number {
    for (let index = count - 1; index >= 0; index -= 1) {
      this.#queue.undoPop(this.#chains[index]!);
      this.#chains[index] = undefined;
    }
    return outcome;
  }

  #refuse(chain: DescriptorChain): number {
    const message =
      `virtio-net receive buffer at head 0x${chain.head.toString(16)} has 0x${chain.readableSize.toString(16)} ` +
      `readable and 0x${chain.writableSize.toString(16)} writable bytes; 0 and at least ${NET_HEADER_SIZE} are due`;
    this.#chains.fill(undefined);
    this.#activation.fail({ section: '5.1.6.3', message });
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
