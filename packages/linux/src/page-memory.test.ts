import { expect, it } from 'vitest';
import { ffi } from './ffi.ts';
import { pageMemory } from './page-memory.ts';
import { describeWithFfi } from './testing/describe-with-ffi.ts';

function placeInPage(bytes: Uint8Array): number {
  return Number(ffi('test').koffi.address(bytes) % 4096n);
}

describeWithFfi('pageMemory', () => {
  it.each([1, 512, 4096, 100_000, 2 ** 21, 2 ** 26])('%i bytes begin on a page and are zero', (size) => {
    const bytes = pageMemory(size);
    expect(bytes.length).toBe(size);
    expect(placeInPage(bytes)).toBe(0);
    expect(bytes.every((byte) => byte === 0)).toBe(true);
    bytes[size - 1] = 1;
  });

  it('another thread may have it', () => {
    const bytes = pageMemory(8192, { shared: true });
    expect(bytes.buffer).toBeInstanceOf(SharedArrayBuffer);
    expect(placeInPage(bytes)).toBe(0);
    const theirs = structuredClone(bytes);
    theirs[8191] = 7;
    expect(bytes[8191]).toBe(7);
    expect(placeInPage(theirs)).toBe(0);
  });

  it.each([-1, 0.5, Number.NaN, 2 ** 60])('a size of %d is refused', (size) => {
    expect(() => pageMemory(size)).toThrow(RangeError);
  });
});
