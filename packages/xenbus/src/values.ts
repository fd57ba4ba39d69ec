import { XenbusError } from './errors.ts';

/** Values of keys, written by somebody else: each is checked in full. All throw `XenbusError` EINVAL naming `path`. */

/** An unsigned decimal number, at most `max`. */
export function parseNumber(path: string, text: string, max: number): number {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (value <= max) return value;
  throw new XenbusError('EINVAL', path, `${quote(text)} is not a number up to ${max}`);
}

/** A 64-bit number as `0x` and hex digits. */
export function parseHex64(path: string, text: string): bigint {
  if (/^0x[0-9a-f]{1,16}$/i.test(text)) return BigInt(text);
  throw new XenbusError('EINVAL', path, `${quote(text)} is not a 64-bit hex number`);
}

/** `0x` and 16 hex digits. */
export function formatHex64(value: bigint): string {
  return `0x${BigInt.asUintN(64, value).toString(16).padStart(16, '0')}`;
}

/** For messages: what a stranger wrote, shortened and without control characters. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);
}
