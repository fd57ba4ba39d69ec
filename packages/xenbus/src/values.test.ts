import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseState } from './state.ts';
import { formatHex64, parseHex64, parseNumber, quote } from './values.ts';

const code = (run: () => unknown): unknown => {
  try {
    run();
    return undefined;
  } catch (error) {
    return (error as { code?: unknown }).code;
  }
};

describe('values of keys', () => {
  it('numbers: what String makes of them, up to the limit, and nothing else', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(), (value, max) => {
        const run = (): number => parseNumber('/p', String(value), max);
        expect(value <= max ? run() : code(run)).toBe(value <= max ? value : 'EINVAL');
      }),
    );
    for (const text of ['', ' 1', '1 ', '+1', '-1', '1.0', '1e1', '0x1', '99999999999', '١']) {
      expect(code(() => parseNumber('/p', text, 2 ** 40))).toBe('EINVAL');
    }
  });

  it('64-bit numbers survive the way there and back', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), (value) => {
        expect(formatHex64(value)).toMatch(/^0x[0-9a-f]{16}$/);
        expect(parseHex64('/p', formatHex64(value))).toBe(value);
      }),
    );
    for (const text of ['', '0x', '12', '0xg', '-0x1', '0x10000000000000000', ' 0x1']) {
      expect(code(() => parseHex64('/p', text))).toBe('EINVAL');
    }
  });

  it('any text is a state or Unknown, and can be quoted in one short line', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(parseState(text)).toBe(/^[0-8]$/.test(text) ? Number(text) : 0);
        expect(quote(text).length).toBeLessThan(300);
        expect(quote(text)).not.toMatch(/[\n\r\0]/);
      }),
    );
  });
});
