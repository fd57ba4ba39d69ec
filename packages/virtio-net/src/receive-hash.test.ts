import { describe, expect, it } from 'vitest';
import { PacketHeaders } from './packet-headers.ts';
import { HASH_TYPES_ALL, ReceiveHash } from './receive-hash.ts';
import { Toeplitz } from './toeplitz.ts';

/** Microsoft, "Verifying the RSS Hash Calculation": the key, and its published results. */
const KEY = Buffer.from(
  '6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa',
  'hex',
);

const ip4 = (text: string): number[] => text.split('.').map(Number);
const ip6 = (text: string): number[] => {
  const [head = '', tail = ''] = text.split('::');
  const words = (part: string): number[] =>
    part === ''
      ? []
      : part.split(':').flatMap((word) => [parseInt(word, 16) >> 8, parseInt(word, 16) & 0xff]);
  const [first, last] = [words(head), words(tail)];
  return [...first, ...Array.from({ length: 16 - first.length - last.length }, () => 0), ...last];
};
const port = (value: number): number[] => [value >> 8, value & 0xff];

const VECTORS4 = [
  ['161.142.100.80', 1766, '66.9.149.187', 2794, 0x323e_8fc2, 0x51cc_c178],
  ['65.69.140.83', 4739, '199.92.111.2', 14_230, 0xd718_262a, 0xc626_b0ea],
  ['12.22.207.184', 38_024, '24.19.198.95', 12_898, 0xd2d0_a5de, 0x5c2b_394a],
  ['209.142.163.6', 2217, '38.27.205.30', 48_228, 0x8298_9176, 0xafc7_327f],
  ['202.188.127.2', 1303, '153.39.163.191', 44_251, 0x5d18_09c5, 0x10e8_28a2],
] as const;
const VECTORS6 = [
  ['3ffe:2501:200:3::1', 1766, '3ffe:2501:200:1fff::7', 2794, 0x2cc1_8cd5, 0x4020_7d3d],
  ['ff02::1', 4739, '3ffe:501:8::260:97ff:fe40:efab', 14_230, 0x0f0c_461c, 0xdde5_1bbf],
  [
    'fe80::200:f8ff:fe21:67cf',
    38_024,
    '3ffe:1900:4545:3:200:f8ff:fe21:67cf',
    44_251,
    0x4b61_e985,
    0x02d1_feef,
  ],
] as const;

/** A frame of this flow: protocol 6, 17 or another. */
function packet(
  source: readonly number[],
  destination: readonly number[],
  ports: readonly number[],
  protocol: number,
  extension: readonly number[] = [],
): Uint8Array {
  const transport = [...ports, ...Array.from({ length: 16 }, () => 0x50)];
  const isV4 = source.length === 4;
  const ethernet = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, ...(isV4 ? [8, 0] : [0x86, 0xdd])];
  const first = extension.length > 0 ? 60 : protocol;
  const network = isV4
    ? [0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, protocol, 0, 0, ...source, ...destination]
    : [0x60, 0, 0, 0, 0, 20, first, 64, ...source, ...destination, ...extension];
  return Uint8Array.from([...ethernet, ...network, ...transport]);
}

function hashOf(bytes: Uint8Array, types: number): [hash: number, report: number] {
  const headers = new PacketHeaders();
  headers.parse(bytes, bytes.length);
  const receiveHash = new ReceiveHash(types, KEY);
  const hash = receiveHash.hash(bytes, headers);
  return [hash, receiveHash.report];
}

describe('Toeplitz: the published results', () => {
  it.each(VECTORS4)('IPv4 %s:%i', (destination, destinationPort, source, sourcePort, ipOnly, withPorts) => {
    // Microsoft's table lists the destination first.
    const input = Uint8Array.from([
      ...ip4(source),
      ...ip4(destination),
      ...port(sourcePort),
      ...port(destinationPort),
    ]);
    const toeplitz = new Toeplitz(KEY);
    expect([toeplitz.hash(input, 8), toeplitz.hash(input, 12)]).toEqual([ipOnly, withPorts]);
    const bytes = packet(ip4(source), ip4(destination), [...port(sourcePort), ...port(destinationPort)], 6);
    expect(hashOf(bytes, HASH_TYPES_ALL)).toEqual([withPorts, 2]);
    expect(hashOf(bytes, 1)).toEqual([ipOnly, 1]);
  });

  it.each(VECTORS6)(
    'IPv6 to %s:%i',
    (destination, destinationPort, source, sourcePort, ipOnly, withPorts) => {
      const bytes = packet(
        ip6(source),
        ip6(destination),
        [...port(sourcePort), ...port(destinationPort)],
        17,
      );
      expect(hashOf(bytes, HASH_TYPES_ALL)).toEqual([withPorts, 6]);
      expect(hashOf(bytes, 8)).toEqual([ipOnly, 4]);
    },
  );
});

describe('what is hashed, and what is reported', () => {
  const [a, b] = [ip4('1.2.3.4'), ip4('5.6.7.8')];
  const [c, d] = [ip6('fd00::1'), ip6('fd00::2')];
  const ports = [...port(1), ...port(2)];
  /** Destination options with a home address. */
  const home = [6, 2, 1, 2, 0, 0, 0xc9, 16, ...ip6('fd00::99')];

  it.each([
    ['TCP with only UDP hashed: nothing', packet(a, b, ports, 6), 4, 0],
    ['TCP with UDP and IPv4 hashed: addresses', packet(a, b, ports, 6), 5, 1],
    ['another protocol: addresses', packet(a, b, ports, 1), HASH_TYPES_ALL, 1],
    ['no IP', Uint8Array.from({ length: 60 }, () => 0xaa), HASH_TYPES_ALL, 0],
    ['TCP over IPv6', packet(c, d, ports, 6), HASH_TYPES_ALL, 5],
    ['with an extension header, its own types first', packet(c, d, ports, 6, home), HASH_TYPES_ALL, 8],
    ['without these types, as if it were not there', packet(c, d, ports, 6, home), 0x38, 5],
    ['by addresses alone', packet(c, d, ports, 6, home), 0x40, 7],
  ])('%s', (_what, bytes, types, report) => {
    expect(hashOf(bytes, types)[1]).toBe(report);
  });

  it('§5.1.9.4.3.4 the home address stands for the source', () => {
    const visiting = hashOf(packet(c, d, ports, 6, home), 0x80)[0];
    expect(visiting).toBe(hashOf(packet(ip6('fd00::99'), d, ports, 6), 0x10)[0]);
    expect(visiting).not.toBe(hashOf(packet(c, d, ports, 6), 0x10)[0]);
  });

  it('a fragment has no ports', () => {
    const bytes = packet(a, b, ports, 6);
    bytes[20] = 0x20;
    expect(hashOf(bytes, HASH_TYPES_ALL)[1]).toBe(1);
  });
});
