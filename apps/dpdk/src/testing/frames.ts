/** Frames, and what testpmd's forward modes make of them. */
import {
  ETHERNET_ADDRESS_SIZE,
  ETHERNET_DESTINATION_OFFSET,
  ETHERNET_HEADER_SIZE,
  ETHERNET_SOURCE_OFFSET,
  ETHERNET_TYPE_OFFSET,
} from '@virtlab/abi/ethernet';
import {
  ETHERTYPE_IPV4,
  IPV4_ADDRESS_SIZE,
  IPV4_CHECKSUM,
  IPV4_DESTINATION,
  IPV4_HEADER_SIZE_MIN,
  IPV4_PROTOCOL,
  IPV4_SOURCE,
  IPV4_TOTAL_LENGTH,
  IP_PROTOCOL_UDP,
  UDP_HEADER_SIZE,
  UDP_LENGTH,
} from '@virtlab/abi/internet';

/** What no standard uses (IEEE Std 802 local experimental EtherType 1). */
const TYPE_EXPERIMENT = 0x88b5;
const IP = ETHERNET_HEADER_SIZE;
const UDP = IP + IPV4_HEADER_SIZE_MIN;
const PORT_SIZE = 2;

export const OURS: Uint8Array = Uint8Array.of(2, 0, 0, 0, 0, 1);
export const THEIRS: Uint8Array = Uint8Array.of(2, 0, 0, 0, 0, 2);

/** Bytes that differ from place to place and from frame to frame. */
export function experiment(size: number, mark: number): Uint8Array {
  const frame = Uint8Array.from({ length: size }, (_, at) => (at * 7 + mark * 13 + (at >> 8)) & 0xff);
  frame.set(THEIRS, ETHERNET_DESTINATION_OFFSET);
  frame.set(OURS, ETHERNET_SOURCE_OFFSET);
  new DataView(frame.buffer).setUint16(ETHERNET_TYPE_OFFSET, TYPE_EXPERIMENT);
  return frame;
}

/** UDP over IPv4; without a UDP checksum, as that is allowed. */
export function datagram(size: number, mark: number): Uint8Array {
  const frame = experiment(size, mark);
  const view = new DataView(frame.buffer);
  frame.fill(0, IP, UDP + UDP_HEADER_SIZE);
  view.setUint16(ETHERNET_TYPE_OFFSET, ETHERTYPE_IPV4);
  frame.set([0x45], IP);
  view.setUint16(IP + IPV4_TOTAL_LENGTH, size - IP);
  frame.set([64, IP_PROTOCOL_UDP], IP + IPV4_PROTOCOL - 1);
  frame.set([10, 0, 0, 1], IP + IPV4_SOURCE);
  frame.set([10, 0, 0, 2], IP + IPV4_DESTINATION);
  view.setUint16(IP + IPV4_CHECKSUM, checksum(frame.subarray(IP, UDP)));
  view.setUint16(UDP, 1024 + mark);
  view.setUint16(UDP + PORT_SIZE, 9);
  view.setUint16(UDP + UDP_LENGTH, size - UDP);
  return frame;
}

/** `macswap`. */
export function withMacsSwapped(frame: Uint8Array): Uint8Array {
  return swapped(frame, ETHERNET_DESTINATION_OFFSET, ETHERNET_SOURCE_OFFSET, ETHERNET_ADDRESS_SIZE);
}

/** `5tswap`: addresses of Ethernet and IP, and ports. Sums do not change by it. */
export function withTupleSwapped(frame: Uint8Array): Uint8Array {
  const addresses = swapped(
    withMacsSwapped(frame),
    IP + IPV4_SOURCE,
    IP + IPV4_DESTINATION,
    IPV4_ADDRESS_SIZE,
  );
  return swapped(addresses, UDP, UDP + PORT_SIZE, PORT_SIZE);
}

function swapped(frame: Uint8Array, one: number, other: number, size: number): Uint8Array {
  const copy = frame.slice();
  copy.set(frame.subarray(one, one + size), other);
  copy.set(frame.subarray(other, other + size), one);
  return copy;
}

/** RFC 1071; 0 over what has its checksum in it. */
export function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (const [at, byte] of bytes.entries()) sum += at % 2 === 0 ? byte << 8 : byte;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

export function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** As `--eth-peer` and `mac=` take it. */
export function macText(address: Uint8Array): string {
  return [...address].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}
