/**
 * Bytes as a string with one character (U+0000 to U+00FF) per byte. The tree keeps values this way: a small
 * `Uint8Array` costs some 200 bytes of heap beside its content, such a string about 20, and both wire strings
 * and values are then compared, joined and used as keys without conversion.
 */
export type ByteString = string;

const CHUNK_SIZE = 4096;

/** The bytes `u8[start, end)`, each read once. */
export function byteString(u8: Uint8Array, start: number = 0, end: number = u8.length): ByteString {
  if (end - start <= CHUNK_SIZE) {
    return String.fromCharCode.apply(null, u8.subarray(start, end) as unknown as number[]);
  }
  let text = '';
  for (let at = start; at < end; at += CHUNK_SIZE) text += byteString(u8, at, Math.min(at + CHUNK_SIZE, end));
  return text;
}

const KNOWN_SIZE_MAX = 128;
const KNOWN_COUNT = 512;
const known: (ByteString | undefined)[] = Array.from({ length: KNOWN_COUNT }, () => undefined);

/**
 * As `byteString`, for what comes again and again, such as paths: gives the string that it gave before, which has been
 * hashed already, so that looking it up costs less as well. Remembers a bounded number of short strings.
 */
export function knownString(u8: Uint8Array, start: number, end: number): ByteString {
  const size = end - start;
  if (size > KNOWN_SIZE_MAX) return byteString(u8, start, end);
  let hash = size;
  for (let i = start; i < end; i++) hash = (Math.imul(hash, 31) + u8[i]!) | 0;
  const slot = (hash ^ (hash >>> 15)) & (KNOWN_COUNT - 1);
  const found = known[slot];
  if (found !== undefined && found.length === size) {
    let i = 0;
    while (i < size && found.charCodeAt(i) === u8[start + i]) i += 1;
    if (i === size) return found;
  }
  const text = byteString(u8, start, end);
  known[slot] = text;
  return text;
}

/** Writes the characters of `text` as bytes to `u8[at, at + text.length)`. The caller made sure they fit. */
export function putByteString(u8: Uint8Array, at: number, text: ByteString): void {
  for (let i = 0; i < text.length; i++) u8[at + i] = text.charCodeAt(i);
}

/** A fresh copy of the bytes. */
export function toBytes(text: ByteString): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(text.length);
  putByteString(bytes, 0, text);
  return bytes;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Text as UTF-8 bytes. */
export function utf8ByteString(text: string): ByteString {
  for (let i = 0; i < text.length; i++) {
    if (text.charCodeAt(i) > 0x7f) return byteString(encoder.encode(text));
  }
  return text;
}

/** Bytes read as UTF-8; what is not UTF-8 becomes U+FFFD. */
export function textOfByteString(bytes: ByteString): string {
  for (let i = 0; i < bytes.length; i++) {
    if (bytes.charCodeAt(i) > 0x7f) return decoder.decode(toBytes(bytes));
  }
  return bytes;
}
