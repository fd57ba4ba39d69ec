/** What a frame on a wire may leave undone, in the words of the packet header (VIRTIO §5.1.9.2, §5.1.9.4). */
import type { FeatureBits } from '@virtlab/abi/brands';
import { hasFeature } from '@virtlab/abi/virtio';
import {
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_USO,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP_L4,
  VIRTIO_NET_HDR_V1,
} from '@virtlab/abi/virtio-net';

/** The first fields of struct virtio_net_hdr, as numbers. All zero: the frame is finished. */
export interface FrameOffload {
  readonly flags: number;
  readonly gsoType: number;
  /** Bytes of the headers that each segment repeats. */
  readonly hdrLen: number;
  /** Bytes of payload in each segment. */
  readonly gsoSize: number;
  readonly csumStart: number;
  readonly csumOffset: number;
}

export const NO_OFFLOAD: FrameOffload = Object.freeze({
  flags: 0,
  gsoType: VIRTIO_NET_HDR_GSO_NONE,
  hdrLen: 0,
  gsoSize: 0,
  csumStart: 0,
  csumOffset: 0,
});

/** Bits of what a party takes unfinished. */
export const ACCEPT_CSUM = 1;
export const ACCEPT_TSO4 = 2;
export const ACCEPT_TSO6 = 4;
export const ACCEPT_ECN = 8;
/** UDP segments of both versions of IP. */
export const ACCEPT_USO = 16;
export const ACCEPT_ALL = 31;

/** What a device takes from a driver with these features. */
export function acceptedByDevice(features: FeatureBits): number {
  return accepted(
    features,
    VIRTIO_NET_F_CSUM,
    VIRTIO_NET_F_HOST_TSO4,
    VIRTIO_NET_F_HOST_TSO6,
    VIRTIO_NET_F_HOST_ECN,
    [VIRTIO_NET_F_HOST_USO],
  );
}

/** What a driver with these features, or of them these offloads switched on, takes from the device. */
export function acceptedByDriver(features: FeatureBits): number {
  return accepted(
    features,
    VIRTIO_NET_F_GUEST_CSUM,
    VIRTIO_NET_F_GUEST_TSO4,
    VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_GUEST_ECN,
    [VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6],
  );
}

function accepted(
  features: FeatureBits,
  csum: number,
  tso4: number,
  tso6: number,
  ecn: number,
  uso: readonly number[],
): number {
  if (!hasFeature(features, csum)) return 0;
  let bits = ACCEPT_CSUM;
  if (hasFeature(features, tso4)) bits |= ACCEPT_TSO4;
  if (hasFeature(features, tso6)) bits |= ACCEPT_TSO6;
  if (hasFeature(features, ecn)) bits |= ACCEPT_ECN;
  if (uso.every((bit) => hasFeature(features, bit))) bits |= ACCEPT_USO;
  return bits;
}

/** Whether something is left to do. */
export function isUnfinished({ flags, gsoType }: FrameOffload): boolean {
  return (flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0 || gsoType !== VIRTIO_NET_HDR_GSO_NONE;
}

/** Whether a party that takes `accept` can have the frame as it is. */
export function isAcceptedBy(accept: number, { flags, gsoType }: FrameOffload): boolean {
  const isCsumTaken = (flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) === 0 || (accept & ACCEPT_CSUM) !== 0;
  if (gsoType === VIRTIO_NET_HDR_GSO_NONE || !isCsumTaken) return isCsumTaken;
  if ((gsoType & VIRTIO_NET_HDR_GSO_ECN) !== 0 && (accept & ACCEPT_ECN) === 0) return false;
  return (accept & acceptBitOf(gsoType)) !== 0;
}

/** The `ACCEPT_*` bit of a segmentation type, ECN left aside; 0 for one that is not known here. */
export function acceptBitOf(gsoType: number): number {
  switch (gsoType & ~VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_TCPV4:
      return ACCEPT_TSO4;
    case VIRTIO_NET_HDR_GSO_TCPV6:
      return ACCEPT_TSO6;
    case VIRTIO_NET_HDR_GSO_UDP_L4:
      return gsoType === VIRTIO_NET_HDR_GSO_UDP_L4 ? ACCEPT_USO : 0;
    default:
      return 0;
  }
}

/** A `FrameOffload` that is used again and again. */
export class OffloadWords implements FrameOffload {
  flags = 0;
  gsoType: number = VIRTIO_NET_HDR_GSO_NONE;
  hdrLen = 0;
  gsoSize = 0;
  csumStart = 0;
  csumOffset = 0;

  clear(): this {
    return this.copy(NO_OFFLOAD);
  }

  copy(from: FrameOffload): this {
    this.flags = from.flags;
    this.gsoType = from.gsoType;
    this.hdrLen = from.hdrLen;
    this.gsoSize = from.gsoSize;
    this.csumStart = from.csumStart;
    this.csumOffset = from.csumOffset;
    return this;
  }

  /** From a header in private bytes. */
  read(bytes: Uint8Array, at: number): this {
    const { offset } = VIRTIO_NET_HDR_V1;
    this.flags = bytes[at + offset.flags]!;
    this.gsoType = bytes[at + offset.gso_type]!;
    this.hdrLen = word(bytes, at + offset.hdr_len);
    this.gsoSize = word(bytes, at + offset.gso_size);
    this.csumStart = word(bytes, at + offset.csum_start);
    this.csumOffset = word(bytes, at + offset.csum_offset);
    return this;
  }
}

/** Writes all of a header but `num_buffers` and what follows. */
export function writeOffload(offload: FrameOffload, bytes: Uint8Array, at: number): void {
  const { offset } = VIRTIO_NET_HDR_V1;
  bytes[at + offset.flags] = offload.flags;
  bytes[at + offset.gso_type] = offload.gsoType;
  setWord(bytes, at + offset.hdr_len, offload.hdrLen);
  setWord(bytes, at + offset.gso_size, offload.gsoSize);
  setWord(bytes, at + offset.csum_start, offload.csumStart);
  setWord(bytes, at + offset.csum_offset, offload.csumOffset);
}

function word(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

export function setWord(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
}
