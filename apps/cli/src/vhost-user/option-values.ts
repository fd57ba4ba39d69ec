import { InvalidArgumentError } from 'commander';
import { wholeNumber } from '../option-values.ts';

const UNITS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** Bytes, with QEMU's binary units: `64M`. */
export function byteSize(text: string): number {
  const found = /^(\d+)([KMGT]?)$/i.exec(text);
  const size = found === null ? NaN : Number(found[1]) * UNITS[found[2]!.toUpperCase()]!;
  if (!Number.isSafeInteger(size))
    throw new InvalidArgumentError('It is not a number of bytes, such as 64M.');
  return size;
}

export function powerOfTwo(text: string): number {
  const value = wholeNumber(text);
  if (value < 4 || value > 32768 || (value & (value - 1)) !== 0)
    throw new InvalidArgumentError('It is not a power of two from 4 to 32768.');
  return value;
}

export function countUpTo(max: number): (text: string) => number {
  return (text) => {
    const value = wholeNumber(text);
    if (value < 1 || value > max) throw new InvalidArgumentError(`It is not from 1 to ${max}.`);
    return value;
  };
}

/** Six bytes as `52:54:00:12:34:56`, of a station. */
export function macAddress(text: string): Uint8Array {
  const bytes = Uint8Array.from(text.split(':'), (byte) =>
    /^[\da-f]{2}$/i.test(byte) ? Number(`0x${byte}`) : NaN,
  );
  const isStation =
    /^([\da-f]{2}:){5}[\da-f]{2}$/i.test(text) && (bytes[0]! & 1) === 0 && bytes.some((byte) => byte !== 0);
  if (!isStation)
    throw new InvalidArgumentError('It is not the address of a station, such as 52:54:00:12:34:56.');
  return bytes;
}

/** For options that may be given several times. */
export function collect<T>(
  parse: (text: string) => T,
): (text: string, before: readonly T[] | undefined) => T[] {
  return (text, before = []) => [...before, parse(text)];
}
