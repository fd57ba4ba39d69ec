import { fc, test } from '@fast-check/vitest';
import { describe, expect } from 'vitest';
import { byteString, knownString, textOfByteString, toBytes, utf8ByteString } from './byte-string.ts';
import { atoi, strtolToU32 } from './c-number.ts';

describe('byte strings', () => {
  test.prop([fc.uint8Array({ maxLength: 10_000 })])('keep every byte', (bytes) => {
    expect(toBytes(byteString(bytes))).toEqual(bytes);
  });

  test.prop([fc.array(fc.uint8Array({ maxLength: 3, max: 3 }), { maxLength: 300 }), fc.nat({ max: 5 })])(
    'are the same when they are remembered, whatever else was',
    (all, offset) => {
      for (const bytes of all) {
        const moved = new Uint8Array([...new Uint8Array(offset), ...bytes, 9]);
        expect(knownString(moved, offset, offset + bytes.length)).toBe(byteString(bytes));
      }
      const long = new Uint8Array(5000).fill(200);
      expect(knownString(long, 1, 4999)).toBe(byteString(long, 1, 4999));
    },
  );

  test.prop([fc.string({ unit: 'grapheme' })])('carry text as UTF-8', (text) => {
    expect(textOfByteString(utf8ByteString(text))).toBe(text);
    expect(toBytes(utf8ByteString(text))).toEqual(new TextEncoder().encode(text));
  });
});

describe('C numbers', () => {
  test.each([
    ['12', 12],
    [' +7x', 7],
    ['-1', -1],
    ['', 0],
    ['x', 0],
    ['4294967296', 0],
    ['99999999999999999999', -1],
  ])('atoi(%j) is %i', (text, value) => {
    expect(atoi(text)).toBe(value);
  });

  test.each([
    ['5', 5],
    ['0x10', 16],
    ['010', 8],
    ['0', 0],
    ['-1', 0xffff_ffff],
    [' 3', 3],
    ['4294967297', 1],
    ['99999999999999999999', 0xffff_ffff],
    ['', undefined],
    ['5 ', undefined],
    ['09', undefined],
    ['0x', undefined],
    ['-', undefined],
  ])('strtol(%j, base 0) as an unsigned int is %s', (text, value) => {
    expect(strtolToU32(text)).toBe(value);
  });
});
