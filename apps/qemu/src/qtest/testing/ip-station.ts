import { ETHERNET_HEADER_SIZE } from '@virtlab/abi/ethernet';
import {
  ETHERTYPE_IPV4,
  IPV4_CHECKSUM,
  IPV4_DESTINATION,
  IPV4_HEADER_SIZE_MIN,
  IPV4_PROTOCOL,
  IPV4_SOURCE,
  IPV4_TOTAL_LENGTH,
  IP_PROTOCOL_TCP,
  TCP_CHECKSUM,
  TCP_DATA_OFFSET,
  TCP_FLAGS,
  TCP_FLAG_PSH,
  TCP_HEADER_SIZE_MIN,
  TCP_SEQUENCE,
} from '@virtlab/abi/internet';
import {
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_TCPV4,
} from '@virtlab/abi/virtio-net';
import { type FrameOffload, NO_OFFLOAD, type NetDriver, type ReceivedFrame } from '@virtlab/virtio-net';
import { settle } from './shared-machine.ts';

const PROTOCOL_ICMP = 1;
const ICMP_ECHO_SIZE = 8;
const ICMP_CHECKSUM = 2;
const TCP_FLAG_SYN = 2;
const TCP_FLAG_ACK = 16;
const TCP_ACKNOWLEDGEMENT = 8;
const TCP_WINDOW = 14;
/** Maximum segment size, as an option. */
const MSS_OPTION: readonly number[] = [2, 4, 1460 >> 8, 1460 & 0xff];
const TRANSPORT_AT = ETHERNET_HEADER_SIZE + IPV4_HEADER_SIZE_MIN;

const OWN_ADDRESS = [10, 77, 0, 2];
const KERNEL_ADDRESS = [10, 77, 0, 1];

export interface Packet {
  readonly protocol: number;
  /** Of IP. */
  readonly payload: Uint8Array;
  /** TCP's acknowledgement number. */
  readonly acknowledged: number;
  readonly frameSize: number;
  readonly flags: number;
  readonly gsoType: number;
  readonly pair: number;
}

/** As much of 10.77.0.2 as it takes to make the kernel at 10.77.0.1 talk. Checksums are left to the device. */
export class IpStation {
  static readonly SEQUENCE = 1000;
  readonly #driver: NetDriver;
  readonly #kernel: readonly number[];
  readonly #packets: Packet[] = [];

  /** `kernel`: its address on the interface, as text. */
  constructor(driver: NetDriver, kernel: string) {
    this.#driver = driver;
    this.#kernel = kernel.split(':').map((byte) => Number.parseInt(byte, 16));
    driver.onFrame((frame, info) => this.#take(frame, info));
  }

  /** Waits for a packet; those before it that do not match are dropped. */
  async next(matches: (packet: Packet) => boolean): Promise<Packet> {
    for (;;) {
      for (let packet = this.#packets.shift(); packet !== undefined; packet = this.#packets.shift()) {
        if (matches(packet)) return packet;
      }
      await settle();
    }
  }

  sendEcho(size: number): void {
    const message = new Uint8Array(ICMP_ECHO_SIZE + size).fill(0x5a, ICMP_ECHO_SIZE);
    message[0] = 8;
    this.#send(PROTOCOL_ICMP, message, {
      ...NO_OFFLOAD,
      flags: VIRTIO_NET_HDR_F_NEEDS_CSUM,
      csumStart: TRANSPORT_AT,
      csumOffset: ICMP_CHECKSUM,
    });
  }

  /** TCP of no connection, that the kernel answers with a reset. */
  sendSegment(size: number, port: number = 4000): void {
    this.#sendTcp([port, 4001], [IpStation.SEQUENCE, 0], TCP_FLAG_PSH, new Uint8Array(size));
  }

  /** Takes a connection that the kernel opens, and so many bytes of it; the largest frame that brought some. */
  async accept(total: number): Promise<readonly [frameSize: number, gsoType: number]> {
    let largest: readonly [number, number] = [0, VIRTIO_NET_HDR_GSO_NONE];
    let ports: readonly [number, number] = [0, 0];
    let start = 0;
    for (let got = 0; got < total;) {
      const packet = await this.next(({ protocol }) => protocol === IP_PROTOCOL_TCP);
      const view = viewOf(packet.payload);
      const sequence = view.getUint32(TCP_SEQUENCE);
      if ((view.getUint8(TCP_FLAGS) & TCP_FLAG_SYN) !== 0) {
        ports = [view.getUint16(2), view.getUint16(0)];
        start = (sequence + 1) >>> 0;
        this.#sendTcp(
          ports,
          [IpStation.SEQUENCE, start],
          TCP_FLAG_SYN | TCP_FLAG_ACK,
          Uint8Array.from(MSS_OPTION),
        );
        continue;
      }
      const size = packet.payload.length - (view.getUint8(TCP_DATA_OFFSET) >> 4) * 4;
      if (view.getUint16(2) !== ports[0] || view.getUint16(0) !== ports[1] || size === 0) continue;
      if (packet.frameSize > largest[0]) largest = [packet.frameSize, packet.gsoType];
      got = Math.max(got, (sequence + size - start) >>> 0);
      this.#sendTcp(ports, [IpStation.SEQUENCE + 1, (start + got) >>> 0], TCP_FLAG_ACK, new Uint8Array());
    }
    return largest;
  }

  /** With SYN, `data` is options. */
  #sendTcp(
    [from, to]: readonly [number, number],
    [sequence, acknowledged]: readonly [number, number],
    flags: number,
    data: Uint8Array,
  ): void {
    const segment = new Uint8Array(TCP_HEADER_SIZE_MIN + data.length);
    const view = viewOf(segment);
    const headerSize = TCP_HEADER_SIZE_MIN + ((flags & TCP_FLAG_SYN) === 0 ? 0 : data.length);
    view.setUint16(0, from);
    view.setUint16(2, to);
    view.setUint32(TCP_SEQUENCE, sequence);
    view.setUint32(TCP_ACKNOWLEDGEMENT, acknowledged);
    view.setUint8(TCP_DATA_OFFSET, (headerSize / 4) << 4);
    view.setUint8(TCP_FLAGS, flags);
    view.setUint16(TCP_WINDOW, 0xffff);
    segment.set(data, TCP_HEADER_SIZE_MIN);
    // §5.1.9.2: the field holds the sum over the pseudo header.
    const pseudo = [
      ...OWN_ADDRESS,
      ...KERNEL_ADDRESS,
      0,
      IP_PROTOCOL_TCP,
      segment.length >> 8,
      segment.length & 0xff,
    ];
    view.setUint16(TCP_CHECKSUM, sum(Uint8Array.from(pseudo)));
    const isLarge = data.length > 1460;
    this.#send(IP_PROTOCOL_TCP, segment, {
      flags: VIRTIO_NET_HDR_F_NEEDS_CSUM,
      gsoType: isLarge ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_NONE,
      hdrLen: isLarge ? TRANSPORT_AT + headerSize : 0,
      gsoSize: isLarge ? 1448 : 0,
      csumStart: TRANSPORT_AT,
      csumOffset: TCP_CHECKSUM,
    });
  }

  #send(protocol: number, payload: Uint8Array, offload: FrameOffload): void {
    const frame = new Uint8Array(TRANSPORT_AT + payload.length);
    frame.set([...this.#kernel, ...this.#driver.mac, ETHERTYPE_IPV4 >> 8, ETHERTYPE_IPV4 & 0xff]);
    const ip = frame.subarray(ETHERNET_HEADER_SIZE, TRANSPORT_AT);
    const view = viewOf(ip);
    view.setUint8(0, 0x45);
    view.setUint16(IPV4_TOTAL_LENGTH, IPV4_HEADER_SIZE_MIN + payload.length);
    view.setUint8(IPV4_PROTOCOL - 1, 64);
    view.setUint8(IPV4_PROTOCOL, protocol);
    ip.set(OWN_ADDRESS, IPV4_SOURCE);
    ip.set(KERNEL_ADDRESS, IPV4_DESTINATION);
    view.setUint16(IPV4_CHECKSUM, ~sum(ip) & 0xffff);
    frame.set(payload, TRANSPORT_AT);
    if (!this.#driver.send(frame, offload)) throw new Error('The ring is full');
    this.#driver.kick();
  }

  #take(frame: Uint8Array, { offload, pair }: ReceivedFrame): void {
    const view = viewOf(frame);
    if (view.getUint16(ETHERNET_HEADER_SIZE - 2) !== ETHERTYPE_IPV4) return;
    const protocol = view.getUint8(ETHERNET_HEADER_SIZE + IPV4_PROTOCOL);
    const end = ETHERNET_HEADER_SIZE + view.getUint16(ETHERNET_HEADER_SIZE + IPV4_TOTAL_LENGTH);
    const payload = frame.slice(TRANSPORT_AT, end);
    const acknowledged = protocol === IP_PROTOCOL_TCP ? viewOf(payload).getUint32(TCP_ACKNOWLEDGEMENT) : 0;
    const { flags, gsoType } = offload;
    this.#packets.push({ protocol, payload, acknowledged, frameSize: frame.length, flags, gsoType, pair });
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** Of 16-bit words, in ones' complement. */
function sum(bytes: Uint8Array): number {
  const view = viewOf(bytes);
  let total = 0;
  for (let at = 0; at < bytes.length; at += 2) total += view.getUint16(at);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}
