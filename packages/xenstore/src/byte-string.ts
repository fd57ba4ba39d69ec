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
