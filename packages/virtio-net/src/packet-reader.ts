/** What a driver hands over to send, made a frame (§5.1.9.2): the framing, what it wants done, its size. */
import {
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_V1,
} from '@virtlab/abi/virtio-net';
import type { DescriptorChain } from '@virtlab/vring';
import { NO_OFFLOAD, OffloadWords } from './frame-offload.ts';
import { isFrameSize } from './frame-size.ts';
import { ChainFrame } from './frame-views.ts';
import { OffloadCheck } from './offload-check.ts';

/** What became of a packet. */
export const PACKET_OK = 0;
/** It has writable bytes: the framing is broken. */
export const PACKET_WRITABLE = 1;
/** To be dropped: no whole header; an offload that was not agreed on or cannot be; no frame's size. */
export const PACKET_SHORT = 2;
export const PACKET_OFFLOAD = 3;
export const PACKET_SIZE = 4;

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const { flags: FLAGS, gso_type: GSO_TYPE, num_buffers: OFFLOAD_SIZE } = VIRTIO_NET_HDR_V1.offset;
const NEEDS_CSUM = VIRTIO_NET_HDR_F_NEEDS_CSUM;
const GSO_NONE = VIRTIO_NET_HDR_GSO_NONE;
const NOTHING = NO_OFFLOAD;
/** Bytes that say at once that nothing is wanted: the flags, and the type beside them. */
const FLAGS_AND_TYPE_SIZE = 2;

export class PacketReader {
  /** Of the packet read last. */
  readonly frame: ChainFrame = new ChainFrame();
  readonly #frameSizeMax: number;
  readonly #offload = new OffloadWords();
  readonly #offloadBytes = new Uint8Array(OFFLOAD_SIZE);
  readonly #check = new OffloadCheck();

  /** `frameSizeMax`: of finished frames. */
  constructor(frameSizeMax: number) {
    this.#frameSizeMax = frameSizeMax;
  }

  /** `PACKET_*`; `accept` is what was agreed on. */
  read(chain: DescriptorChain, headerSize: number, accept: number): number {
    if (chain.writableSize !== 0) return PACKET_WRITABLE;
    if (chain.readableSize < headerSize) return PACKET_SHORT;
    const frame = this.frame.set(chain, headerSize);
    if (!isHeaderPlain(chain) && !this.#readOffload(chain, accept)) return PACKET_OFFLOAD;
    return isFrameSize(frame, this.#frameSizeMax) ? PACKET_OK : PACKET_SIZE;
  }

  /** §5.1.9.2.2: flags other than NEEDS_CSUM mean nothing here. False: the frame is to be dropped. */
  #readOffload(chain: DescriptorChain, accept: number): boolean {
    const needsCsum = (chain.readU8(FLAGS) & NEEDS_CSUM) !== 0;
    if (!needsCsum && chain.readU8(GSO_TYPE) === GSO_NONE) return true;
    chain.read(0, this.#offloadBytes);
    const offload = this.#offload.read(this.#offloadBytes, 0);
    offload.flags &= NEEDS_CSUM;
    if (!this.#check.pass(offload, this.frame, accept)) return false;
    this.frame.offload = offload.flags === 0 ? NOTHING : offload;
    return true;
  }
}

/** Reads both bytes at once where they lie so, and else says no. */
function isHeaderPlain({ segments, regions }: DescriptorChain): boolean {
  const at = segments.offset[0]! + FLAGS;
  if (segments.size[0]! < FLAGS_AND_TYPE_SIZE || (at & 1) !== 0) return false;
  return regions[segments.region[0]!]!.u16[at >>> 1] === GSO_NONE;
}
