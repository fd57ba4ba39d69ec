/** Internet packets for tests, and a slow, plain reference for checksums and segments: whole packets in, whole packets out. */

export interface PacketShape {
  readonly version: 4 | 6;
  readonly protocol: 6 | 17;
  readonly payloadSize: number;
  readonly hasVlan?: boolean;
  /** Bytes of options: IPv4 (multiple of 4), IPv6 hop-by-hop (multiple of 8), TCP (multiple of 4). */
  readonly ipOptionSize?: number;
  readonly tcpOptionSize?: number;
  readonly tcpFlags?: number;
  readonly seed?: number;
  readonly sequence?: number;
  readonly id?: number;
}

/** Where headers are, as the test that built the packet knows. */
export interface BuiltPacket {
  readonly bytes: Uint8Array;
  readonly networkAt: number;
  readonly transportAt: number;
  readonly payloadAt: number;
  readonly checksumOffset: number;
}

/** Sum of 16-bit words, one by one, as RFC 1071 says it. */
export function slowSum(...parts: readonly (readonly number[])[]): number {
  const bytes = parts.flat();
  if (bytes.length % 2 === 1) bytes.push(0);
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) {
    sum += bytes[at]! * 256 + bytes[at + 1]!;
    if (sum > 0xffff) sum -= 0xffff;
  }
  return sum;
}

function be(size: number, value: number): number[] {
  return Array.from({ length: size }, (_, index) => Math.floor(value / 256 ** (size - 1 - index)) % 256);
}

/** The frame with every checksum right, from its parts. */
function assemble(
  shape: PacketShape,
  payload: readonly number[],
  index: number,
  isLast: boolean,
  before: number,
): BuiltPacket {
  const { version, protocol, hasVlan = false, ipOptionSize = 0, tcpOptionSize = 0, seed = 1 } = shape;
  const { tcpFlags = 0x18, sequence = 1000, id = 7 } = shape;
  const ethernet = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, ...(hasVlan ? [0x81, 0, 0x20, 5] : [])];
  ethernet.push(...(version === 4 ? [8, 0] : [0x86, 0xdd]));
  let flags = tcpFlags;
  if (index > 0) flags &= ~0x80;
  if (!isLast) flags &= ~0x09;
  const transportSize = (protocol === 6 ? 20 + tcpOptionSize : 8) + payload.length;
  const ports = [...be(2, 1024 + seed), ...be(2, 80)];
  const options = Array.from({ length: tcpOptionSize }, () => 1);
  const transport = (checksum: number): number[] =>
    protocol === 6
      ? [
          ...ports,
          ...be(4, (sequence + before) % 2 ** 32),
          ...be(4, 0x1234_5678),
          ((20 + tcpOptionSize) / 4) << 4,
          flags,
          0x20,
          0,
          ...be(2, checksum),
          0,
          0,
          ...options,
          ...payload,
        ]
      : [...ports, ...be(2, transportSize), ...be(2, checksum), ...payload];
  const addressSize = version === 4 ? 4 : 16;
  const addresses = Array.from({ length: 2 * addressSize }, (_, at) => (at * 7 + seed) & 0xff);
  const pseudo = [...addresses, ...be(4, transportSize), 0, 0, 0, protocol];
  let checksum = 0xffff - slowSum(pseudo, transport(0));
  if (protocol === 17 && checksum === 0) checksum = 0xffff;
  const network =
    version === 4
      ? ipv4(ipOptionSize, transportSize, id + index, protocol, addresses)
      : ipv6(ipOptionSize, transportSize, protocol, addresses);
  const transportAt = ethernet.length + network.length;
  return {
    bytes: Uint8Array.from([...ethernet, ...network, ...transport(checksum)]),
    networkAt: ethernet.length,
    transportAt,
    payloadAt: transportAt + transportSize - payload.length,
    checksumOffset: protocol === 6 ? 16 : 6,
  };
}

function ipv4(
  optionSize: number,
  size: number,
  id: number,
  protocol: number,
  addresses: readonly number[],
): number[] {
  const headerSize = 20 + optionSize;
  const options = Array.from({ length: optionSize }, () => 1);
  const header = (checksum: number): number[] => [
    0x40 | (headerSize / 4),
    0,
    ...be(2, headerSize + size),
    ...be(2, id % 65_536),
    0x40,
    0,
    64,
    protocol,
    ...be(2, checksum),
    ...addresses,
    ...options,
  ];
  return header(0xffff - slowSum(header(0)));
}

function ipv6(optionSize: number, size: number, protocol: number, addresses: readonly number[]): number[] {
  const option =
    optionSize === 0
      ? []
      : [protocol, optionSize / 8 - 1, 1, optionSize - 4, ...Array.from({ length: optionSize - 4 }, () => 0)];
  return [
    0x60,
    0,
    0,
    0,
    ...be(2, optionSize + size),
    optionSize === 0 ? protocol : 0,
    64,
    ...addresses,
    ...option,
  ];
}

function payloadOf({ payloadSize, seed = 1 }: PacketShape): number[] {
  return Array.from({ length: payloadSize }, (_, at) => (at * 31 + (at >> 8) * 7 + seed) & 0xff);
}

/** One finished packet. */
export function buildPacket(shape: PacketShape): BuiltPacket {
  return assemble(shape, payloadOf(shape), 0, true, 0);
}

/** The finished packets that a segmenting device must make of it, each built anew. */
export function referenceSegments(shape: PacketShape, segmentSize: number): Uint8Array[] {
  const payload = payloadOf(shape);
  const segments: Uint8Array[] = [];
  for (let at = 0; at < payload.length; at += segmentSize) {
    const part = payload.slice(at, at + segmentSize);
    segments.push(assemble(shape, part, segments.length, at + segmentSize >= payload.length, at).bytes);
  }
  return segments;
}

/** The same packet as a stack hands it over for its checksum to be finished: the field holds the pseudo header's sum. */
export function leaveChecksumOpen(
  { bytes, networkAt, transportAt, checksumOffset }: BuiltPacket,
  shape: PacketShape,
): Uint8Array {
  const open = bytes.slice();
  const addressAt = shape.version === 4 ? networkAt + 12 : networkAt + 8;
  const addresses = [...bytes.subarray(addressAt, addressAt + (shape.version === 4 ? 8 : 32))];
  const sum = slowSum(addresses, be(4, bytes.length - transportAt), [0, 0, 0, shape.protocol]);
  open.set(be(2, sum), transportAt + checksumOffset);
  return open;
}
