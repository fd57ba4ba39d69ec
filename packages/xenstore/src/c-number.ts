/**
 * Numbers as the C daemon reads them out of strings. Its habits are part of the protocol: `domid` arguments go
 * through `atoi`, permission entries through `strtol` with base 0 and then into 32 bits.
 */

const DECIMAL = /^[ \t\n\v\f\r]*([+-]?\d+)/;
const ANY_BASE = /^[ \t\n\v\f\r]*([+-]?)(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9]\d*))$/;
const WHOLE_DECIMAL = /^[ \t\n\v\f\r]*([+-]?\d+)$/;
const LONG_MAX = 2n ** 63n - 1n;

/** `atoi`: leading white space, sign and digits; anything else is ignored; 0 when there are none. A C `int`. */
export function atoi(text: string): number {
  const digits = DECIMAL.exec(text)?.[1];
  if (digits === undefined) return 0;
  return Number(BigInt.asIntN(32, saturate(BigInt(digits))));
}

/** `strtoul` with base 10 that must use up all of `text` and stay within 16 bits; nothing at all is 0 (C HEAD). */
export function strictDomid(text: string): number | undefined {
  if (text === '') return 0;
  const digits = WHOLE_DECIMAL.exec(text)?.[1];
  if (digits === undefined) return undefined;
  const value = Number(digits);
  if (text.includes('-') && value !== 0) return undefined;
  return Math.abs(value) <= 0xffff ? Math.abs(value) : undefined;
}

/** `strtol(text, &end, 0)` that must use up all of `text`, stored into an `unsigned int`. */
export function strtolToU32(text: string): number | undefined {
  const match = ANY_BASE.exec(text);
  if (match === null) return undefined;
  const [, sign, hex, octal, decimal] = match;
  const magnitude = BigInt(hex !== undefined ? `0x${hex}` : octal !== undefined ? `0o0${octal}` : decimal!);
  return Number(BigInt.asUintN(32, saturate(sign === '-' ? -magnitude : magnitude)));
}

function saturate(value: bigint): bigint {
  if (value > LONG_MAX) return LONG_MAX;
  return value < -LONG_MAX - 1n ? -LONG_MAX - 1n : value;
}
