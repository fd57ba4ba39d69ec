/** TCP segments over IPv4 for the benchmark of offloads: what a stack would send, without the stack. */
import { ETHERNET_ADDRESS_SIZE, ETHERNET_HEADER_SIZE, ETHERNET_TYPE_OFFSET } from '@virtlab/abi/ethernet';
import * as ip from '@virtlab/abi/internet';
import {
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_TCPV4,
} from '@virtlab/abi/virtio-net';
import { type FrameOffload, type FrameReceiver, type FrameView } from '@virtlab/virtio-net';
import { CARD_MAC } from './frames.ts';

/** Bytes of payload in a frame of 1500 bytes after the Ethernet header, and in a large frame: as many as go into one packet. */
export const SEGMENT_SIZE: number = 1500 - ip.IPV4_HEADER_SIZE_MIN - ip.TCP_HEADER_SIZE_MIN;
export const SEGMENT_COUNT = 44;
export const LARGE_SIZE: number = SEGMENT_COUNT * SEGMENT_SIZE;

/** The station that segments are for. */
export const SINK_MAC: Uint8Array = Uint8Array.of(2, 0, 0, 0, 0, 3);

const NETWORK = ETHERNET_HEADER_SIZE;
const TRANSPORT: number = NETWORK + ip.IPV4_HEADER_SIZE_MIN;
const PAYLOAD: number = TRANSPORT + ip.TCP_HEADER_SIZE_MIN;
const SEQUENCE: number = TRANSPORT + ip.TCP_SEQUENCE;
const SOURCE_PORT = TRANSPORT;
const FIRST_PORT = 40_000;
/** Streams at once at most. */
const FLOWS_MAX = 16;
const VERSION_AND_SIZE = 0x45;
const TIME_TO_LIVE_OFFSET = 8;

/** Frames of one TCP stream; the checksum is left to whoever takes the frame, and the segmentation if there is any to do. */
export class SegmentFrame {
  readonly bytes: Uint8Array;
  readonly offload: FrameOffload;
  readonly #view: DataView;
  readonly #payloadSize: number;
  #sequence = 0;

  /** `payloadSize` bytes in a frame; more than `SEGMENT_SIZE` are to be segmented. */
  constructor(payloadSize: number, flow: number) {
    this.bytes = new Uint8Array(PAYLOAD + payloadSize);
    this.#view = new DataView(this.bytes.buffer);
    this.#payloadSize = payloadSize;
    const isLarge = payloadSize > SEGMENT_SIZE;
    this.offload = {
      flags: VIRTIO_NET_HDR_F_NEEDS_CSUM,
      gsoType: isLarge ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_NONE,
      hdrLen: isLarge ? PAYLOAD : 0,
      gsoSize: isLarge ? SEGMENT_SIZE : 0,
      csumStart: TRANSPORT,
      csumOffset: ip.TCP_CHECKSUM,
    };
    this.#writeHeaders(flow);
  }

  /** The next frame of the stream; the same bytes again. */
  next(): Uint8Array {
    this.#view.setUint32(SEQUENCE, this.#sequence);
    this.#sequence = (this.#sequence + this.#payloadSize) >>> 0;
    return this.bytes;
  }

  #writeHeaders(flow: number): void {
    const view = this.#view;
    this.bytes.set(SINK_MAC, 0);
    this.bytes.set(CARD_MAC, ETHERNET_ADDRESS_SIZE);
    view.setUint16(ETHERNET_TYPE_OFFSET, ip.ETHERTYPE_IPV4);
    const transportSize = this.bytes.length - TRANSPORT;
    this.bytes[NETWORK] = VERSION_AND_SIZE;
    view.setUint16(NETWORK + ip.IPV4_TOTAL_LENGTH, this.bytes.length - NETWORK);
    this.bytes[NETWORK + TIME_TO_LIVE_OFFSET] = 64;
    this.bytes[NETWORK + ip.IPV4_PROTOCOL] = ip.IP_PROTOCOL_TCP;
    this.bytes.set([10, 0, 0, 1], NETWORK + ip.IPV4_SOURCE);
    this.bytes.set([10, 0, 0, 2], NETWORK + ip.IPV4_DESTINATION);
    view.setUint16(NETWORK + ip.IPV4_CHECKSUM, ~this.#sum(NETWORK, TRANSPORT) & 0xffff);
    view.setUint16(SOURCE_PORT, FIRST_PORT + flow);
    view.setUint16(SOURCE_PORT + 2, 5201);
    this.bytes[TRANSPORT + ip.TCP_DATA_OFFSET] = (ip.TCP_HEADER_SIZE_MIN / 4) << 4;
    this.bytes[TRANSPORT + ip.TCP_FLAGS] = 0x10;
    // NEEDS_CSUM: the field holds the sum of the pseudo header (VIRTIO §5.1.6.2).
    const pseudo = this.#sum(NETWORK + ip.IPV4_SOURCE, TRANSPORT) + ip.IP_PROTOCOL_TCP + transportSize;
    view.setUint16(TRANSPORT + ip.TCP_CHECKSUM, fold(pseudo));
  }

  #sum(from: number, end: number): number {
    let sum = 0;
    for (let at = from; at < end; at += 2) sum += this.#view.getUint16(at);
    return fold(sum);
  }
}

function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}

/** Takes segments as they come, finished or not, copies each, and looks that it is the next of its stream. */
export class SegmentSink implements FrameReceiver {
  readonly #bytes = new Uint8Array(1 << 17);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #expected = new Uint32Array(FLOWS_MAX);
  readonly #seen = new Uint8Array(FLOWS_MAX);
  readonly #onTally: (byteCount: number) => void;
  #byteCount = 0;
  #goal = -1;

  /** `onTally`: the bytes that were waited for have come. */
  constructor(onTally: (byteCount: number) => void) {
    this.#onTally = onTally;
  }

  receive(frame: FrameView): boolean {
    const { size } = frame;
    frame.copy(0, size, this.#bytes, 0);
    const flow = this.#view.getUint16(SOURCE_PORT) - FIRST_PORT;
    const sequence = this.#view.getUint32(SEQUENCE);
    if (size < PAYLOAD || !(flow >= 0 && flow < FLOWS_MAX)) return false;
    // What is lost is not made up for, and the tally never comes.
    if (this.#seen[flow] === 1 && sequence !== this.#expected[flow]) return false;
    this.#seen[flow] = 1;
    this.#expected[flow] = sequence + size - PAYLOAD;
    this.#byteCount += size - PAYLOAD;
    return true;
  }

  flush(): void {
    if (this.#byteCount !== this.#goal) return;
    this.#goal = -1;
    const byteCount = this.#byteCount;
    this.#byteCount = 0;
    this.#seen.fill(0);
    this.#onTally(byteCount);
  }

  /** Waits until so many bytes have come; they may have. */
  expect(byteCount: number): void {
    this.#goal = byteCount;
    this.flush();
  }
}
