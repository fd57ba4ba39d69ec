/** The Internet checksum (RFC 1071): ones' complement sum of big-endian 16-bit words. */

/** Private bytes with a view for fast sums; `bytes` begins at an even address. */
export interface SummableBytes {
  readonly bytes: Uint8Array;
  readonly words: Uint16Array;
}

export function summableBytes(size: number): SummableBytes {
  const bytes = new Uint8Array(size + (size & 1));
  return { bytes, words: new Uint16Array(bytes.buffer) };
}

/** `Uint16Array` elements come in the machine's order, and the sum does not care but for one swap (RFC 1071 §2 B). */
const IS_LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** Adds bytes `[from, from + size)`, the last padded with zero, to a sum; folded to 16 bits. */
export function addSum(sum: number, { bytes, words }: SummableBytes, from: number, size: number): number {
  let total = 0;
  let at = from;
  const end = from + size;
  if ((from & 1) === 0) {
    const last = end >>> 1;
    let wide = 0;
    for (let index = from >>> 1; index < last; index += 1) wide += words[index]!;
    total = fold(wide);
    if (IS_LITTLE_ENDIAN) total = ((total & 0xff) << 8) | (total >>> 8);
    at = last * 2;
  } else {
    for (; at + 1 < end; at += 2) total += (bytes[at]! << 8) | bytes[at + 1]!;
  }
  if (at < end) total += bytes[at]! << 8;
  return fold(total + sum);
}

/** To 16 bits with the carries added back. */
export function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x1_0000);
  return folded;
}

/** Ones' complement difference of two sums of 16 bits. */
export function subtractSum(sum: number, part: number): number {
  return fold(sum + (~part & 0xffff));
}

/** The value of a checksum field; what would be 0 is written as its other form, which UDP needs and nobody minds. */
export function checksumField(sum: number): number {
  return ~sum & 0xffff || 0xffff;
}
