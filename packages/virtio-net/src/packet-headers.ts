/** Where the headers of a packet are. Everything is read from private bytes: a sender may change its own at any time. */
import { ETHERNET_HEADER_SIZE, ETHERNET_TYPE_OFFSET, ETHERNET_VLAN_TAG_SIZE } from '@virtlab/abi/ethernet';
import * as inet from '@virtlab/abi/internet';

/** Two tags are a service and a customer VLAN; more is nobody's. */
const TAG_COUNT_MAX = 2;
/** IPv6 asks for each extension at most once, and destination options twice (RFC 8200 §4.1). */
const EXTENSION_COUNT_MAX = 8;
/** Bytes of a frame that hold its headers, unless its sender means no good: what is looked at for steering. */
export const HEADERS_SIZE_MAX = 256;

const NONE = -1;

/** The headers of the packet parsed last. Offsets are from the start of the frame; -1 where there is no such header. */
export class PacketHeaders {
  /** VLAN id of the outer tag, or -1. */
  vlanId: number = NONE;
  /** 4, 6, or 0 for what is no IP. */
  ipVersion = 0;
  networkAt: number = NONE;
  /** IP_PROTOCOL_TCP or _UDP with a whole header in the first fragment of one; else 0. */
  protocol = 0;
  transportAt: number = NONE;
  /** Where the payload of TCP or UDP begins. */
  payloadAt: number = NONE;
  isFragment = false;
  /** IPv6 with extension headers. */
  hasExtensions = false;
  /** 16 bytes each: the home addresses of RFC 6275, which stand for source and destination; or -1. */
  homeSourceAt: number = NONE;
  homeDestinationAt: number = NONE;

  /** `bytes[0, size)` begins with a frame. Parses as far as it makes sense. */
  parse(bytes: Uint8Array, size: number): void {
    this.#reset();
    if (size < ETHERNET_HEADER_SIZE) return;
    let at = ETHERNET_TYPE_OFFSET;
    let type = be16(bytes, at);
    for (let tags = 0; tags < TAG_COUNT_MAX && isTag(type); tags += 1) {
      if (size < at + 2 * ETHERNET_VLAN_TAG_SIZE - 2) return;
      if (tags === 0) this.vlanId = be16(bytes, at + 2) & inet.VLAN_ID_MASK;
      at += ETHERNET_VLAN_TAG_SIZE;
      type = be16(bytes, at);
    }
    if (type === inet.ETHERTYPE_IPV4) this.#parseIpv4(bytes, at + 2, size);
    else if (type === inet.ETHERTYPE_IPV6) this.#parseIpv6(bytes, at + 2, size);
  }

  get sourceAt(): number {
    return this.networkAt + (this.ipVersion === 4 ? inet.IPV4_SOURCE : inet.IPV6_SOURCE);
  }

  get destinationAt(): number {
    return this.networkAt + (this.ipVersion === 4 ? inet.IPV4_DESTINATION : inet.IPV6_DESTINATION);
  }

  get addressSize(): number {
    return this.ipVersion === 4 ? inet.IPV4_ADDRESS_SIZE : inet.IPV6_ADDRESS_SIZE;
  }

  #reset(): void {
    this.vlanId = NONE;
    this.ipVersion = 0;
    this.networkAt = NONE;
    this.protocol = 0;
    this.transportAt = NONE;
    this.payloadAt = NONE;
    this.isFragment = false;
    this.hasExtensions = false;
    this.homeSourceAt = NONE;
    this.homeDestinationAt = NONE;
  }

  #parseIpv4(bytes: Uint8Array, at: number, size: number): void {
    if (size < at + inet.IPV4_HEADER_SIZE_MIN || bytes[at]! >>> 4 !== 4) return;
    const headerSize = (bytes[at]! & 0xf) * 4;
    if (headerSize < inet.IPV4_HEADER_SIZE_MIN || size < at + headerSize) return;
    this.ipVersion = 4;
    this.networkAt = at;
    this.isFragment = (be16(bytes, at + inet.IPV4_FRAGMENT) & inet.IPV4_FRAGMENT_MASK) !== 0;
    if (!this.isFragment) this.#parseTransport(bytes, bytes[at + inet.IPV4_PROTOCOL]!, at + headerSize, size);
  }

  #parseIpv6(bytes: Uint8Array, at: number, size: number): void {
    if (size < at + inet.IPV6_HEADER_SIZE || bytes[at]! >>> 4 !== 6) return;
    this.ipVersion = 6;
    this.networkAt = at;
    let next = bytes[at + inet.IPV6_NEXT_HEADER]!;
    let header = at + inet.IPV6_HEADER_SIZE;
    this.hasExtensions = isExtension(next);
    for (let count = 0; count < EXTENSION_COUNT_MAX && isExtension(next); count += 1) {
      if (next === inet.IPV6_FRAGMENT) {
        this.isFragment = true;
        return;
      }
      if (size < header + 8) return;
      const words = bytes[header + 1]!;
      const extensionSize = next === inet.IPV6_AUTHENTICATION ? (words + 2) * 4 : (words + 1) * 8;
      if (size < header + extensionSize) return;
      this.#noteHome(bytes, next, header, header + extensionSize);
      next = bytes[header]!;
      header += extensionSize;
    }
    this.#parseTransport(bytes, next, header, size);
  }

  #noteHome(bytes: Uint8Array, extension: number, at: number, end: number): void {
    const { IPV6_ADDRESS_SIZE } = inet;
    if (extension === inet.IPV6_ROUTING) {
      const isHome = bytes[at + 2] === inet.IPV6_ROUTING_TYPE_2 && at + 8 + IPV6_ADDRESS_SIZE <= end;
      if (isHome) this.homeDestinationAt = at + 8;
      return;
    }
    if (extension !== inet.IPV6_DESTINATION_OPTIONS) return;
    for (let option = at + 2; option < end;) {
      if (bytes[option] === 0) {
        option += 1;
        continue;
      }
      if (option + 2 > end) return;
      const optionSize = 2 + bytes[option + 1]!;
      const isHome =
        bytes[option] === inet.IPV6_OPTION_HOME_ADDRESS &&
        optionSize === 2 + IPV6_ADDRESS_SIZE &&
        option + optionSize <= end;
      if (isHome) this.homeSourceAt = option + 2;
      option += optionSize;
    }
  }

  #parseTransport(bytes: Uint8Array, protocol: number, at: number, size: number): void {
    if (protocol === inet.IP_PROTOCOL_TCP) {
      if (size < at + inet.TCP_HEADER_SIZE_MIN) return;
      const headerSize = (bytes[at + inet.TCP_DATA_OFFSET]! >>> 4) * 4;
      if (headerSize < inet.TCP_HEADER_SIZE_MIN || size < at + headerSize) return;
      this.payloadAt = at + headerSize;
    } else if (protocol === inet.IP_PROTOCOL_UDP) {
      if (size < at + inet.UDP_HEADER_SIZE) return;
      this.payloadAt = at + inet.UDP_HEADER_SIZE;
    } else {
      return;
    }
    this.protocol = protocol;
    this.transportAt = at;
  }
}

export function be16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

export function setBe16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

function isTag(type: number): boolean {
  return type === inet.ETHERTYPE_VLAN || type === inet.ETHERTYPE_SERVICE_VLAN;
}

function isExtension(next: number): boolean {
  return (
    next === inet.IPV6_HOP_BY_HOP ||
    next === inet.IPV6_ROUTING ||
    next === inet.IPV6_FRAGMENT ||
    next === inet.IPV6_AUTHENTICATION ||
    next === inet.IPV6_DESTINATION_OPTIONS
  );
}
