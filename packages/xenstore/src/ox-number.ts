/**
 * Numbers as oxenstored reads and prints them: OCaml's `int` of 63 bits. Beyond 2^53 they are kept rounded, which no
 * domain id is.
 */

const INTEGER =
  /^([-+]?)(?:0[xX]([\da-fA-F][\da-fA-F_]*)|0[oO]([0-7][0-7_]*)|0[bB]([01][01_]*)|(0[uU])?(\d[\d_]*))$/;
const INT_BITS = 63;
const NATIVE_BITS = 64;

/** `int_of_string`: undefined where it fails. */
export function oxInteger(text: string): number | undefined {
  const value = parse(text, INT_BITS);
  return value === undefined ? undefined : Number(value);
}

/** `Nativeint.of_string`. */
export function oxNativeInteger(text: string): bigint | undefined {
  return parse(text, NATIVE_BITS);
}

/** `c_int_of_string` of process.ml: the first digits, wherever they begin; no sign; 0 without any. */
export function oxFirstInteger(text: string): bigint {
  const digits = /\d+/.exec(text)?.[0] ?? '0';
  return BigInt.asIntN(INT_BITS, BigInt(digits));
}

/** `%u`. */
export function oxUnsigned(value: number | bigint): string {
  return value >= 0 ? String(value) : String((1n << BigInt(INT_BITS)) + BigInt(value));
}

/** Decimals must fit with their sign; other notations are bit patterns. */
function parse(text: string, bits: number): bigint | undefined {
  const match = INTEGER.exec(text);
  if (match === null) return undefined;
  const [, sign, hex, octal, binary, unsigned, decimal] = match;
  const [prefix, digits] =
    hex !== undefined
      ? ['0x', hex]
      : octal !== undefined
        ? ['0o', octal]
        : binary !== undefined
          ? ['0b', binary]
          : ['', decimal!];
  const magnitude = BigInt(`${prefix}${digits.replaceAll('_', '')}`);
  const isDecimal = prefix === '' && unsigned === undefined;
  const max = isDecimal ? (1n << BigInt(bits - 1)) - (sign === '-' ? 0n : 1n) : (1n << BigInt(bits)) - 1n;
  if (magnitude > max) return undefined;
  return BigInt.asIntN(bits, sign === '-' ? -magnitude : magnitude);
}
