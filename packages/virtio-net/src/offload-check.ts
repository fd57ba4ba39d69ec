import { ETHERNET_HEADER_SIZE } from '@virtlab/abi/ethernet';
import { IP_PROTOCOL_TCP, IP_PROTOCOL_UDP, TCP_CHECKSUM, UDP_CHECKSUM } from '@virtlab/abi/internet';
import {
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP_L4,
} from '@virtlab/abi/virtio-net';
import { type OffloadWords, isAcceptedBy, isUnfinished } from './frame-offload.ts';
import type { FrameView } from './network.ts';
import { HEADERS_SIZE_MAX, PacketHeaders } from './packet-headers.ts';

/** Segments of one frame at most: 64 KiB in the smallest ones that TCP and UDP send. One frame must not become a storm. */
export const TCP_SEGMENT_COUNT_MAX = 2048;
export const UDP_SEGMENT_COUNT_MAX = 128;
/** Bytes of a checksum field. */
const CHECKSUM_SIZE = 2;

/**
 * Decides whether what a header asks for can be done to its frame (§5.1.9.2.1, §5.1.9.4.1). The words are private; the frame is
 * looked at once. What passes has a checksum field within the frame and, with segmentation, headers that fit its type, the
 * checksum and the frame; `hdrLen` is then what the headers say, whatever was there (§5.1.9.2.2: not to be relied on).
 */
export class OffloadCheck {
  readonly headers: PacketHeaders = new PacketHeaders();
  readonly #bytes = new Uint8Array(HEADERS_SIZE_MAX);

  /** `accept`: what was agreed on. False: the frame is to be dropped. */
  pass(offload: OffloadWords, frame: FrameView, accept: number): boolean {
    if (!isUnfinished(offload)) return true;
    if (!isAcceptedBy(accept, offload)) return false;
    const { flags, gsoType, csumStart, csumOffset } = offload;
    const hasChecksum = (flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0;
    if (hasChecksum && csumStart < ETHERNET_HEADER_SIZE) return false;
    if (hasChecksum && csumStart + csumOffset + CHECKSUM_SIZE > frame.size) return false;
    // §5.1.9.2.1: segmentation without a checksum to finish is the sender's mistake.
    return gsoType === VIRTIO_NET_HDR_GSO_NONE || (hasChecksum && this.#passSegmentation(offload, frame));
  }

  #passSegmentation(offload: OffloadWords, frame: FrameView): boolean {
    const size = Math.min(frame.size, this.#bytes.length);
    frame.copy(0, size, this.#bytes, 0);
    const { headers } = this;
    headers.parse(this.#bytes, size);
    if (!fitsType(headers, offload) || headers.transportAt !== offload.csumStart) return false;
    const isTcp = headers.protocol === IP_PROTOCOL_TCP;
    if (offload.csumOffset !== (isTcp ? TCP_CHECKSUM : UDP_CHECKSUM)) return false;
    const payloadSize = frame.size - headers.payloadAt;
    const countMax = isTcp ? TCP_SEGMENT_COUNT_MAX : UDP_SEGMENT_COUNT_MAX;
    if (offload.gsoSize === 0 || payloadSize <= 0 || payloadSize > offload.gsoSize * countMax) return false;
    offload.hdrLen = headers.payloadAt;
    return true;
  }
}

function fitsType({ ipVersion, protocol }: PacketHeaders, { gsoType }: OffloadWords): boolean {
  switch (gsoType & ~VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_TCPV4:
      return ipVersion === 4 && protocol === IP_PROTOCOL_TCP;
    case VIRTIO_NET_HDR_GSO_TCPV6:
      return ipVersion === 6 && protocol === IP_PROTOCOL_TCP;
    case VIRTIO_NET_HDR_GSO_UDP_L4:
      return ipVersion !== 0 && protocol === IP_PROTOCOL_UDP;
    default:
      return false;
  }
}
