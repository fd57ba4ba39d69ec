/**
 * Just enough of Ethernet, ARP, IPv4, ICMP and UDP to be a well-behaved station: RFC 826, 791, 792, 768, 1071.
 * Builders write into a frame buffer that the caller owns and return the frame's size; parsers check every length.
 */

export const ETHERNET_HEADER_SIZE = 14;
const IPV4_HEADER_SIZE = 20;
const UDP_HEADER_SIZE = 8;
const ICMP_HEADER_SIZE = 8;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_ARP = 0x0806;
const PROTOCOL_ICMP = 1;
const PROTOCOL_UDP = 17;
const ARP_REQUEST = 1;
const ARP_REPLY = 2;
const ARP_FRAME_SIZE = 42;
const ICMP_ECHO_REPLY = 0;
const ICMP_ECHO_REQUEST = 8;
/** Where the UDP payload of a frame starts. */
export const UDP_PAYLOAD_OFFSET: number = ETHERNET_HEADER_SIZE + IPV4_HEADER_SIZE + UDP_HEADER_SIZE;

const BROADCAST = new Uint8Array(6).fill(0xff);

export interface Station {
  readonly mac: Uint8Array;
  /** Four bytes. */
  readonly ip: Uint8Array;
}

export type ParsedFrame =
  | {
      readonly kind: 'arp';
      readonly operation: number;
      readonly sender: Station;
      readonly targetIp: Uint8Array;
    }
  | {
      readonly kind: 'icmp';
      readonly type: number;
      readonly source: Station;
      readonly id: number;
      readonly sequence: number;
    }
  | {
      readonly kind: 'udp';
      readonly source: Station;
      readonly sourcePort: number;
      readonly port: number;
      readonly payload: Uint8Array;
    }
  | { readonly kind: 'other' };

export function buildArpRequest(frame: Uint8Array, own: Station, targetIp: Uint8Array): number {
  return buildArp(frame, ARP_REQUEST, own, { mac: new Uint8Array(6), ip: targetIp }, BROADCAST);
}

export function buildArpReply(frame: Uint8Array, own: Station, to: Station): number {
  return buildArp(frame, ARP_REPLY, own, to, to.mac);
}

function buildArp(
  frame: Uint8Array,
  operation: number,
  own: Station,
  target: Station,
  destination: Uint8Array,
): number {
  writeEthernet(frame, destination, own.mac, ETHERTYPE_ARP);
  const view = viewOf(frame);
  view.setUint16(14, 1); // hardware: Ethernet
  view.setUint16(16, ETHERTYPE_IPV4);
  frame[18] = 6;
  frame[19] = 4;
  view.setUint16(20, operation);
  frame.set(own.mac, 22);
  frame.set(own.ip, 28);
  frame.set(target.mac, 32);
  frame.set(target.ip, 38);
  return ARP_FRAME_SIZE;
}

export function buildEchoRequest(
  frame: Uint8Array,
  own: Station,
  to: Station,
  id: number,
  sequence: number,
  size: number,
): number {
  const at = ETHERNET_HEADER_SIZE + IPV4_HEADER_SIZE;
  for (let index = 0; index < size; index += 1) frame[at + ICMP_HEADER_SIZE + index] = index & 0xff;
  return finishIcmp(frame, ICMP_ECHO_REQUEST, own, to, id, sequence, size);
}

/** Answers an echo request; `request` is the received frame. */
export function buildEchoReply(
  frame: Uint8Array,
  own: Station,
  to: Station,
  request: Uint8Array,
  id: number,
  sequence: number,
): number {
  const at = ETHERNET_HEADER_SIZE + IPV4_HEADER_SIZE + ICMP_HEADER_SIZE;
  const size = ipTotalSize(request) - IPV4_HEADER_SIZE - ICMP_HEADER_SIZE;
  frame.set(request.subarray(at, at + size), at);
  return finishIcmp(frame, ICMP_ECHO_REPLY, own, to, id, sequence, size);
}

function finishIcmp(
  frame: Uint8Array,
  type: number,
  own: Station,
  to: Station,
  id: number,
  sequence: number,
  size: number,
): number {
  const at = ETHERNET_HEADER_SIZE + IPV4_HEADER_SIZE;
  const view = viewOf(frame);
  frame[at] = type;
  frame[at + 1] = 0;
  view.setUint16(at + 2, 0);
  view.setUint16(at + 4, id);
  view.setUint16(at + 6, sequence);
  view.setUint16(at + 2, checksum(frame, at, at + ICMP_HEADER_SIZE + size, 0));
  return writeIpv4(frame, own, to, PROTOCOL_ICMP, ICMP_HEADER_SIZE + size);
}

/** The payload must stand at `UDP_PAYLOAD_OFFSET` of the frame already. */
export function buildUdp(
  frame: Uint8Array,
  own: Station,
  to: Station,
  ports: { source: number; destination: number },
  size: number,
): number {
  const at = ETHERNET_HEADER_SIZE + IPV4_HEADER_SIZE;
  const view = viewOf(frame);
  const udpSize = UDP_HEADER_SIZE + size;
  view.setUint16(at, ports.source);
  view.setUint16(at + 2, ports.destination);
  view.setUint16(at + 4, udpSize);
  view.setUint16(at + 6, 0);
  const sum = checksum(frame, at, at + udpSize, pseudoHeaderSum(own.ip, to.ip, PROTOCOL_UDP, udpSize));
  view.setUint16(at + 6, sum === 0 ? 0xffff : sum);
  return writeIpv4(frame, own, to, PROTOCOL_UDP, udpSize);
}

/** What a received frame is; anything malformed, or with a wrong checksum, is `other`. */
export function parseFrame(frame: Uint8Array): ParsedFrame {
  if (frame.length < ETHERNET_HEADER_SIZE) return { kind: 'other' };
  const view = viewOf(frame);
  const type = view.getUint16(12);
  if (type === ETHERTYPE_ARP && frame.length >= ARP_FRAME_SIZE) {
    return {
      kind: 'arp',
      operation: view.getUint16(20),
      sender: { mac: frame.slice(22, 28), ip: frame.slice(28, 32) },
      targetIp: frame.slice(38, 42),
    };
  }
  if (type !== ETHERTYPE_IPV4 || frame.length < ETHERNET_HEADER_SIZE + IPV4_HEADER_SIZE)
    return { kind: 'other' };
  return parseIpv4(frame, view);
}

function parseIpv4(frame: Uint8Array, view: DataView): ParsedFrame {
  const ip = ETHERNET_HEADER_SIZE;
  const total = ipTotalSize(frame);
  if (frame[ip] !== 0x45 || total < IPV4_HEADER_SIZE + 8 || ip + total > frame.length)
    return { kind: 'other' };
  if (checksum(frame, ip, ip + IPV4_HEADER_SIZE, 0) !== 0) return { kind: 'other' };
  const source: Station = { mac: frame.slice(6, 12), ip: frame.slice(ip + 12, ip + 16) };
  const at = ip + IPV4_HEADER_SIZE;
  const end = ip + total;
  if (frame[ip + 9] === PROTOCOL_ICMP) {
    if (checksum(frame, at, end, 0) !== 0) return { kind: 'other' };
    return {
      kind: 'icmp',
      type: frame[at]!,
      source,
      id: view.getUint16(at + 4),
      sequence: view.getUint16(at + 6),
    };
  }
  if (frame[ip + 9] !== PROTOCOL_UDP) return { kind: 'other' };
  const size = view.getUint16(at + 4);
  if (size < UDP_HEADER_SIZE || at + size > end) return { kind: 'other' };
  const pseudo = pseudoHeaderSum(source.ip, frame.subarray(ip + 16, ip + 20), PROTOCOL_UDP, size);
  if (view.getUint16(at + 6) !== 0 && checksum(frame, at, at + size, pseudo) !== 0) return { kind: 'other' };
  return {
    kind: 'udp',
    source,
    sourcePort: view.getUint16(at),
    port: view.getUint16(at + 2),
    payload: frame.subarray(at + UDP_HEADER_SIZE, at + size),
  };
}

export function isArpRequest(operation: number): boolean {
  return operation === ARP_REQUEST;
}

export function isEchoRequest(type: number): boolean {
  return type === ICMP_ECHO_REQUEST;
}

function ipTotalSize(frame: Uint8Array): number {
  return viewOf(frame).getUint16(ETHERNET_HEADER_SIZE + 2);
}

function writeIpv4(
  frame: Uint8Array,
  own: Station,
  to: Station,
  protocol: number,
  payloadSize: number,
): number {
  writeEthernet(frame, to.mac, own.mac, ETHERTYPE_IPV4);
  const view = viewOf(frame);
  const at = ETHERNET_HEADER_SIZE;
  view.setUint16(at, 0x4500);
  view.setUint16(at + 2, IPV4_HEADER_SIZE + payloadSize);
  view.setUint32(at + 4, 0x0000_4000); // identification 0, don't fragment
  view.setUint16(at + 8, (64 << 8) | protocol);
  view.setUint16(at + 10, 0);
  frame.set(own.ip, at + 12);
  frame.set(to.ip, at + 16);
  view.setUint16(at + 10, checksum(frame, at, at + IPV4_HEADER_SIZE, 0));
  return ETHERNET_HEADER_SIZE + IPV4_HEADER_SIZE + payloadSize;
}

function writeEthernet(frame: Uint8Array, destination: Uint8Array, source: Uint8Array, type: number): void {
  frame.set(destination, 0);
  frame.set(source, 6);
  frame[12] = type >> 8;
  frame[13] = type & 0xff;
}

function pseudoHeaderSum(
  source: Uint8Array,
  destination: Uint8Array,
  protocol: number,
  size: number,
): number {
  const sum = (bytes: Uint8Array): number => ((bytes[0]! << 8) | bytes[1]!) + ((bytes[2]! << 8) | bytes[3]!);
  return sum(source) + sum(destination) + protocol + size;
}

/** The Internet checksum of `[from, to)`, starting from an unfolded sum. Zero over data that carries its checksum. */
function checksum(bytes: Uint8Array, from: number, to: number, initial: number): number {
  let sum = initial;
  let at = from;
  for (; at + 1 < to; at += 2) sum += (bytes[at]! << 8) | bytes[at + 1]!;
  if (at < to) sum += bytes[at]! << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function viewOf(frame: Uint8Array): DataView {
  return new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
}
