import { fc, test } from '@fast-check/vitest';
import {
  XENSTORE_PAYLOAD_MAX,
  XS_DIRECTORY,
  XS_ERROR,
  XS_READ,
  XS_SET_PERMS,
  XS_TRANSACTION_START,
  XS_WATCH_EVENT,
  XS_WRITE,
} from '@virtlab/abi/xs-wire';
import { describe, expect, it } from 'vitest';
import { byteString } from './byte-string.ts';
import { XenstorePacketParser, encodePacket, nulStrings, singleString } from './wire.ts';

interface Row {
  readonly name: string;
  readonly packet: readonly [type: number, reqId: number, txId: number, payload: string];
  /** Hexadecimal, as the C structure lies in memory. */
  readonly bytes: string;
}

const ROWS: readonly Row[] = [
  {
    name: 'READ /a',
    packet: [XS_READ, 1, 0, '/a\0'],
    bytes: '02000000 01000000 00000000 03000000 2f6100',
  },
  {
    name: 'WRITE with a binary value in a transaction',
    packet: [XS_WRITE, 0xffffffff, 0x01020304, '/a\0\0\u00ff\u0080'],
    bytes: '0b000000 ffffffff 04030201 06000000 2f6100 00ff80',
  },
  {
    name: 'DIRECTORY reply of a leaf',
    packet: [XS_DIRECTORY, 7, 0, ''],
    bytes: '01000000 07000000 00000000 00000000',
  },
  {
    name: 'TRANSACTION_START',
    packet: [XS_TRANSACTION_START, 2, 0, '\0'],
    bytes: '06000000 02000000 00000000 01000000 00',
  },
  {
    name: 'SET_PERMS with two entries',
    packet: [XS_SET_PERMS, 3, 0, '/a\0n0\0r5\0'],
    bytes: '0e000000 03000000 00000000 09000000 2f6100 6e3000 723500',
  },
  {
    name: 'WATCH_EVENT',
    packet: [XS_WATCH_EVENT, 0, 0, '/a\0t\0'],
    bytes: '0f000000 00000000 00000000 05000000 2f6100 7400',
  },
  {
    name: 'ERROR ENOENT',
    packet: [XS_ERROR, 9, 5, 'ENOENT\0'],
    bytes: '10000000 09000000 05000000 07000000 454e4f454e5400',
  },
];

const fromHex = (text: string): Uint8Array =>
  Uint8Array.from(text.replaceAll(' ', '').match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));

/** Everything the parser yields when fed `size` bytes at a time. */
function parseInSteps(bytes: Uint8Array, size: number): (readonly [number, number, number, string])[] {
  const parser = new XenstorePacketParser();
  const packets: (readonly [number, number, number, string])[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    parser.push(bytes.subarray(at, at + size));
    for (let parsed = parser.next(); parsed.status === 'packet'; parsed = parser.next()) {
      const { type, reqId, txId, payload } = parsed.packet;
      packets.push([type, reqId, txId, byteString(payload)]);
    }
  }
  expect(parser.bufferedSize).toBe(0);
  return packets;
}

describe('wire codec (xs_wire.h, struct xsd_sockmsg)', () => {
  it.each(ROWS)('encodes $name', ({ packet, bytes }) => {
    expect(encodePacket(...packet)).toEqual(fromHex(bytes));
  });

  it.each(ROWS)('parses $name, fed any number of bytes at a time', ({ packet, bytes }) => {
    const whole = fromHex(bytes);
    for (let size = 1; size <= whole.length; size++) expect(parseInSteps(whole, size)).toEqual([packet]);
  });

  it('parses a stream of packets, fed any number of bytes at a time', () => {
    const stream = fromHex(ROWS.map(({ bytes }) => bytes).join(''));
    for (let size = 1; size <= stream.length; size++) {
      expect(parseInSteps(stream, size)).toEqual(ROWS.map(({ packet }) => packet));
    }
  });

  it('says how many bytes are missing', () => {
    const parser = new XenstorePacketParser();
    expect(parser.next()).toEqual({ status: 'need', byteCount: 16 });
    parser.push(fromHex('02000000 01000000 00000000'));
    expect(parser.next()).toEqual({ status: 'need', byteCount: 4 });
    parser.push(fromHex('03000000 2f'));
    expect(parser.next()).toEqual({ status: 'need', byteCount: 2 });
  });

  it('XENSTORE_PAYLOAD_MAX: a longer payload is a protocol error, for good', () => {
    const parser = new XenstorePacketParser();
    parser.push(fromHex('02000000 01000000 00000000 01100000'));
    expect(parser.next()).toMatchObject({ status: 'error' });
    parser.push(fromHex(ROWS[0]!.bytes));
    expect(parser.next()).toMatchObject({ status: 'error' });
    expect(() => encodePacket(XS_WRITE, 1, 0, 'x'.repeat(XENSTORE_PAYLOAD_MAX + 1))).toThrow(RangeError);
  });

  test.prop([
    fc.array(fc.record({ type: fc.nat(), payload: fc.uint8Array({ maxLength: 600 }) }), { maxLength: 20 }),
    fc.infiniteStream(fc.integer({ min: 1, max: 900 })),
  ])('parses what it encoded, however it was cut', (packets, cuts) => {
    const stream = packets.flatMap(({ type, payload }, i) => [...encodePacket(type, i, i * 3, payload)]);
    const parser = new XenstorePacketParser();
    const found: unknown[] = [];
    for (let at = 0; at < stream.length;) {
      const size = cuts.next().value;
      parser.push(new Uint8Array(stream.slice(at, at + size)));
      at += size;
      for (let parsed = parser.next(); parsed.status === 'packet'; parsed = parser.next()) {
        found.push({ ...parsed.packet, payload: parsed.packet.payload.slice() });
      }
    }
    expect(found).toEqual(packets.map(({ type, payload }, i) => ({ type, reqId: i, txId: i * 3, payload })));
  });

  test.prop([fc.array(fc.uint8Array({ maxLength: 64 }))])('never throws, whatever arrives', (chunks) => {
    const parser = new XenstorePacketParser();
    for (const chunk of chunks) {
      parser.push(chunk);
      while (parser.next().status === 'packet');
    }
  });
});

describe('payload strings', () => {
  it('nulStrings leaves out what has no NUL; singleString wants exactly one', () => {
    expect(nulStrings(fromHex('6100 6200 63'))).toEqual(['a', 'b']);
    expect(nulStrings(fromHex(''))).toEqual([]);
    expect(singleString(fromHex('6100'))).toBe('a');
    expect(singleString(fromHex('61'))).toBeUndefined();
    expect(singleString(fromHex('610000'))).toBeUndefined();
    expect(singleString(fromHex(''))).toBeUndefined();
  });
});
