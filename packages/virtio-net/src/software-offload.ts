import * as inet from '@virtlab/abi/internet';
import { VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_NONE } from '@virtlab/abi/virtio-net';
import { copyBytes } from './copy-bytes.ts';
import { ACCEPT_CSUM, type FrameOffload, OffloadWords } from './frame-offload.ts';
import { BytesFrame } from './frame-views.ts';
import {
  type SummableBytes,
  addSum,
  checksumField,
  fold,
  subtractSum,
  summableBytes,
} from './internet-checksum.ts';
import type { FrameView } from './network.ts';
import { HEADERS_SIZE_MAX, PacketHeaders, be16, setBe16 } from './packet-headers.ts';
import { UNFINISHED_FRAME_SIZE_MAX } from './protocol.ts';

/** Takes finished frames; each is valid during the call. */
export interface FinishedFrames {
  /** False when it was dropped. */
  take(frame: FrameView): boolean;
}

/** Counters since creation. */
export interface SoftwareOffloadStatistics {
  /** Checksums computed for frames, and for segments. */
  readonly checksums: number;
  /** Frames that were segmented, and the segments made of them. */
  readonly segmented: number;
  readonly segments: number;
  /** Frames whose bytes were not what their header had said. */
  readonly refused: number;
}

/**
 * Does in software what a party does not: finishes checksums (RFC 1071) and segments TCP and UDP, as the Linux stack does it
 * (net/ipv4/tcp_offload.c, udp_offload.c). The frame is copied once, to private memory, and everything is decided there;
 * segments refer to that copy.
 */
export class SoftwareOffload {
  readonly statistics = { checksums: 0, segmented: 0, segments: 0, refused: 0 };
  readonly #source: SummableBytes = summableBytes(UNFINISHED_FRAME_SIZE_MAX);
  readonly #headers = new PacketHeaders();
  readonly #whole = new BytesFrame();
  readonly #segment: SegmentFrame;

  constructor() {
    this.#segment = new SegmentFrame(this.#source.bytes);
  }

  /**
   * Finishes a frame that passed `OffloadCheck` for somebody who takes `accept`, and hands over what comes of it. With
   * `ACCEPT_CSUM` segments have their checksums left open. False when any of it was dropped.
   */
  finish(frame: FrameView, accept: number, to: FinishedFrames): boolean {
    const { bytes } = this.#source;
    const { size, offload } = frame;
    if (size > UNFINISHED_FRAME_SIZE_MAX) return this.#refuse();
    frame.copy(0, size, bytes, 0);
    if (offload.gsoType !== VIRTIO_NET_HDR_GSO_NONE) return this.#segmentAll(size, offload, accept, to);
    this.#finishChecksum(size, offload);
    return to.take(this.#whole.set(bytes, 0, size));
  }

  /** §5.1.9.2.1: the field holds the sum of the pseudo header; everything from `csum_start` on is added. */
  #finishChecksum(size: number, { csumStart, csumOffset }: FrameOffload): void {
    const sum = addSum(0, this.#source, csumStart, size - csumStart);
    setBe16(this.#source.bytes, csumStart + csumOffset, checksumField(sum));
    this.statistics.checksums += 1;
  }

  #segmentAll(size: number, offload: FrameOffload, accept: number, to: FinishedFrames): boolean {
    const { bytes } = this.#source;
    const headers = this.#headers;
    headers.parse(bytes, Math.min(size, HEADERS_SIZE_MAX));
    // The bytes may be others than those that were checked.
    if (headers.transportAt !== offload.csumStart || headers.payloadAt !== offload.hdrLen)
      return this.#refuse();
    this.statistics.segmented += 1;
    const segment = this.#segment;
    segment.begin(headers, size, offload, (accept & ACCEPT_CSUM) !== 0);
    let isTaken = true;
    for (let at = headers.payloadAt, index = 0; at < size; at += offload.gsoSize, index += 1) {
      const payloadSize = Math.min(offload.gsoSize, size - at);
      segment.set(this.#source, at, payloadSize, index);
      this.statistics.segments += 1;
      if (!to.take(segment)) isTaken = false;
    }
    return isTaken;
  }

  #refuse(): false {
    this.statistics.refused += 1;
    return false;
  }
}

/** One segment: headers of its own, and payload where the whole frame lies. */
class SegmentFrame implements FrameView {
  size = 0;
  readonly offload: OffloadWords = new OffloadWords();
  readonly #payload: Uint8Array;
  readonly #own: SummableBytes = summableBytes(HEADERS_SIZE_MAX);
  #headers: PacketHeaders = new PacketHeaders();
  #headerSize = 0;
  #payloadAt = 0;
  #frameSize = 0;
  #isChecksumOpen = false;
  #checksumAt = 0;
  /** Sum of the pseudo header without the length of TCP or UDP. */
  #pseudoSum = 0;
  #firstId = 0;
  #firstSequence = 0;
  #flags = 0;

  constructor(payload: Uint8Array) {
    this.#payload = payload;
  }

  copy(at: number, size: number, target: Uint8Array, targetAt: number): void {
    const fromHeaders = Math.max(0, Math.min(this.#headerSize - at, size));
    if (fromHeaders > 0) copyBytes(this.#own.bytes, at, target, targetAt, fromHeaders);
    if (fromHeaders === size) return;
    const from = this.#payloadAt + at + fromHeaders - this.#headerSize;
    copyBytes(this.#payload, from, target, targetAt + fromHeaders, size - fromHeaders);
  }

  begin(headers: PacketHeaders, frameSize: number, offload: FrameOffload, isChecksumOpen: boolean): void {
    const bytes = this.#payload;
    const { networkAt, transportAt, payloadAt } = headers;
    this.#headers = headers;
    this.#headerSize = payloadAt;
    this.#frameSize = frameSize;
    this.#isChecksumOpen = isChecksumOpen;
    this.#checksumAt = offload.csumStart + offload.csumOffset;
    copyBytes(bytes, 0, this.#own.bytes, 0, payloadAt);
    this.#pseudoSum = subtractSum(be16(bytes, this.#checksumAt), fold(frameSize - transportAt));
    this.#firstId = headers.ipVersion === 4 ? be16(bytes, networkAt + inet.IPV4_ID) : 0;
    const sequenceAt = transportAt + inet.TCP_SEQUENCE;
    this.#firstSequence = be16(bytes, sequenceAt) * 0x1_0000 + be16(bytes, sequenceAt + 2);
    this.#flags = bytes[transportAt + inet.TCP_FLAGS]!;
    this.offload.clear();
    if (!isChecksumOpen) return;
    this.offload.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    this.offload.csumStart = offload.csumStart;
    this.offload.csumOffset = offload.csumOffset;
  }

  /** The payload `[at, at + payloadSize)` of the whole frame, as the segment of this index. */
  set(source: SummableBytes, at: number, payloadSize: number, index: number): void {
    this.#payloadAt = at;
    this.size = this.#headerSize + payloadSize;
    this.#writeNetwork(index);
    const { transportAt, protocol } = this.#headers;
    if (protocol === inet.IP_PROTOCOL_TCP) this.#writeTcp(at, payloadSize);
    else setBe16(this.#own.bytes, transportAt + inet.UDP_LENGTH, this.size - transportAt);
    this.#writeChecksum(source, at, payloadSize);
  }

  #writeNetwork(index: number): void {
    const { bytes } = this.#own;
    const { networkAt, ipVersion } = this.#headers;
    if (ipVersion === 6) {
      const payloadSize = this.size - networkAt - inet.IPV6_HEADER_SIZE;
      setBe16(bytes, networkAt + inet.IPV6_PAYLOAD_LENGTH, payloadSize);
      return;
    }
    setBe16(bytes, networkAt + inet.IPV4_TOTAL_LENGTH, this.size - networkAt);
    setBe16(bytes, networkAt + inet.IPV4_ID, this.#firstId + index);
    setBe16(bytes, networkAt + inet.IPV4_CHECKSUM, 0);
    const headerSize = (bytes[networkAt]! & 0xf) * 4;
    setBe16(bytes, networkAt + inet.IPV4_CHECKSUM, ~addSum(0, this.#own, networkAt, headerSize));
  }

  /** RFC 3168 §6.1.2: CWR is for the first segment; the end of the data, for the last. */
  #writeTcp(at: number, payloadSize: number): void {
    const { bytes } = this.#own;
    const { transportAt, payloadAt } = this.#headers;
    const sequence = this.#firstSequence + (at - payloadAt);
    setBe16(bytes, transportAt + inet.TCP_SEQUENCE, sequence >>> 16);
    setBe16(bytes, transportAt + inet.TCP_SEQUENCE + 2, sequence);
    let flags = this.#flags;
    if (at !== payloadAt) flags &= ~inet.TCP_FLAG_CWR;
    if (at + payloadSize !== this.#frameSize) flags &= ~(inet.TCP_FLAG_FIN | inet.TCP_FLAG_PSH);
    bytes[transportAt + inet.TCP_FLAGS] = flags;
  }

  #writeChecksum(source: SummableBytes, at: number, payloadSize: number): void {
    const { transportAt, protocol } = this.#headers;
    const pseudo = fold(this.#pseudoSum + this.size - transportAt);
    const { bytes } = this.#own;
    setBe16(bytes, this.#checksumAt, pseudo);
    if (this.#isChecksumOpen) return;
    const sum = addSum(
      addSum(0, this.#own, transportAt, this.#headerSize - transportAt),
      source,
      at,
      payloadSize,
    );
    const isUdp = protocol === inet.IP_PROTOCOL_UDP;
    setBe16(bytes, this.#checksumAt, isUdp ? checksumField(sum) : ~sum);
  }
}
