import * as inet from '@virtlab/abi/internet';
import * as ctrl from '@virtlab/abi/virtio-net-ctrl';
import type { PacketHeaders } from './packet-headers.ts';
import { TOEPLITZ_INPUT_SIZE_MAX, Toeplitz } from './toeplitz.ts';

/** All hash types there are. */
export const HASH_TYPES_ALL: number =
  ctrl.VIRTIO_NET_RSS_HASH_TYPE_IPv4 |
  ctrl.VIRTIO_NET_RSS_HASH_TYPE_TCPv4 |
  ctrl.VIRTIO_NET_RSS_HASH_TYPE_UDPv4 |
  ctrl.VIRTIO_NET_RSS_HASH_TYPE_IPv6 |
  ctrl.VIRTIO_NET_RSS_HASH_TYPE_TCPv6 |
  ctrl.VIRTIO_NET_RSS_HASH_TYPE_UDPv6 |
  ctrl.VIRTIO_NET_RSS_HASH_TYPE_IP_EX |
  ctrl.VIRTIO_NET_RSS_HASH_TYPE_TCP_EX |
  ctrl.VIRTIO_NET_RSS_HASH_TYPE_UDP_EX;

/** Which types stand for a kind of packet: with TCP, with UDP, and by addresses alone; and what is reported. */
interface HashKinds {
  readonly tcp: number;
  readonly udp: number;
  readonly ip: number;
  readonly tcpReport: number;
  readonly udpReport: number;
  readonly ipReport: number;
}

const IPV4: HashKinds = {
  tcp: ctrl.VIRTIO_NET_RSS_HASH_TYPE_TCPv4,
  udp: ctrl.VIRTIO_NET_RSS_HASH_TYPE_UDPv4,
  ip: ctrl.VIRTIO_NET_RSS_HASH_TYPE_IPv4,
  tcpReport: ctrl.VIRTIO_NET_HASH_REPORT_TCPv4,
  udpReport: ctrl.VIRTIO_NET_HASH_REPORT_UDPv4,
  ipReport: ctrl.VIRTIO_NET_HASH_REPORT_IPv4,
};
const IPV6: HashKinds = {
  tcp: ctrl.VIRTIO_NET_RSS_HASH_TYPE_TCPv6,
  udp: ctrl.VIRTIO_NET_RSS_HASH_TYPE_UDPv6,
  ip: ctrl.VIRTIO_NET_RSS_HASH_TYPE_IPv6,
  tcpReport: ctrl.VIRTIO_NET_HASH_REPORT_TCPv6,
  udpReport: ctrl.VIRTIO_NET_HASH_REPORT_UDPv6,
  ipReport: ctrl.VIRTIO_NET_HASH_REPORT_IPv6,
};
const IPV6_EX: HashKinds = {
  tcp: ctrl.VIRTIO_NET_RSS_HASH_TYPE_TCP_EX,
  udp: ctrl.VIRTIO_NET_RSS_HASH_TYPE_UDP_EX,
  ip: ctrl.VIRTIO_NET_RSS_HASH_TYPE_IP_EX,
  tcpReport: ctrl.VIRTIO_NET_HASH_REPORT_TCPv6_EX,
  udpReport: ctrl.VIRTIO_NET_HASH_REPORT_UDPv6_EX,
  ipReport: ctrl.VIRTIO_NET_HASH_REPORT_IPv6_EX,
};

/** Bytes of the two ports. */
const PORTS_SIZE = 4;

/** Hashes packets for RSS and HASH_REPORT (§5.1.9.4.3, §5.1.9.4.5). */
export class ReceiveHash {
  /** Of the packet hashed last: `VIRTIO_NET_HASH_REPORT_*`. */
  report: number = ctrl.VIRTIO_NET_HASH_REPORT_NONE;
  readonly #types: number;
  readonly #toeplitz: Toeplitz;
  readonly #input = new Uint8Array(TOEPLITZ_INPUT_SIZE_MAX);

  constructor(types: number, key: Uint8Array) {
    this.#types = types;
    this.#toeplitz = new Toeplitz(key);
  }

  /** The hash, and in `report` what it is of; 0 and NONE for a packet of no type that is hashed. */
  hash(bytes: Uint8Array, headers: PacketHeaders): number {
    this.report = ctrl.VIRTIO_NET_HASH_REPORT_NONE;
    if (headers.ipVersion === 0) return 0;
    if (headers.ipVersion === 4) return this.#hashAs(IPV4, bytes, headers, false);
    // §5.1.9.4.3.4: with extension headers the types _EX come first, and else they are skipped.
    const hash = headers.hasExtensions ? this.#hashAs(IPV6_EX, bytes, headers, true) : 0;
    if (this.report !== ctrl.VIRTIO_NET_HASH_REPORT_NONE) return hash;
    return this.#hashAs(IPV6, bytes, headers, false);
  }

  #hashAs(kinds: HashKinds, bytes: Uint8Array, headers: PacketHeaders, isHome: boolean): number {
    const { protocol } = headers;
    if (protocol === inet.IP_PROTOCOL_TCP && (this.#types & kinds.tcp) !== 0) {
      this.report = kinds.tcpReport;
      return this.#hashInput(bytes, headers, isHome, true);
    }
    if (protocol === inet.IP_PROTOCOL_UDP && (this.#types & kinds.udp) !== 0) {
      this.report = kinds.udpReport;
      return this.#hashInput(bytes, headers, isHome, true);
    }
    if ((this.#types & kinds.ip) === 0) return 0;
    this.report = kinds.ipReport;
    return this.#hashInput(bytes, headers, isHome, false);
  }

  #hashInput(bytes: Uint8Array, headers: PacketHeaders, isHome: boolean, hasPorts: boolean): number {
    const { addressSize, homeSourceAt, homeDestinationAt, transportAt } = headers;
    const source = isHome && homeSourceAt >= 0 ? homeSourceAt : headers.sourceAt;
    const destination = isHome && homeDestinationAt >= 0 ? homeDestinationAt : headers.destinationAt;
    const input = this.#input;
    for (let at = 0; at < addressSize; at += 1) {
      input[at] = bytes[source + at]!;
      input[addressSize + at] = bytes[destination + at]!;
    }
    let size = 2 * addressSize;
    if (!hasPorts) return this.#toeplitz.hash(input, size);
    for (let at = 0; at < PORTS_SIZE; at += 1) input[size + at] = bytes[transportAt + at]!;
    size += PORTS_SIZE;
    return this.#toeplitz.hash(input, size);
  }
}
