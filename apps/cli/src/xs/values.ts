/** Values on a terminal and in JSON. The escapes are those of xenstore-utils (tools/xenstore/xs_lib.c). */

const NAMED: ReadonlyMap<number, string> = new Map([
  [0x09, '\\t'],
  [0x0a, '\\n'],
  [0x0d, '\\r'],
  [0x5c, '\\\\'],
]);

const ESCAPED: readonly string[] = Array.from({ length: 256 }, (_value, byte) => {
  const named = NAMED.get(byte);
  if (named !== undefined) return named;
  if (byte >= 0x20 && byte <= 0x7e) return String.fromCharCode(byte);
  return byte < 0o10 ? `\\${byte.toString(8).padStart(3, '0')}` : `\\x${byte.toString(16).padStart(2, '0')}`;
});

/** Printable ASCII as it is, all other bytes and the backslash as escapes. */
export function escapeValue(value: Uint8Array): string {
  let text = '';
  for (const byte of value) text += ESCAPED[byte]!;
  return text;
}

/**
 * The bytes that a text with escapes stands for: `\t \n \r \\`, `\x` with up to two digits, up to three octal digits.
 * Any other character after a backslash stands for itself; a backslash at the end is a NUL.
 */
export function unescapeValue(text: string): Uint8Array {
  const source = Buffer.from(text, 'utf8').toString('latin1');
  const bytes: number[] = [];
  for (let at = 0; at < source.length;) {
    const character = source.charCodeAt(at);
    at += 1;
    if (character !== 0x5c) {
      bytes.push(character);
      continue;
    }
    const { byte, size } = escapeAt(source, at);
    bytes.push(byte & 0xff);
    at += size;
  }
  return Uint8Array.from(bytes);
}

function escapeAt(source: string, at: number): { readonly byte: number; readonly size: number } {
  const letter = source.charAt(at);
  switch (letter) {
    case '':
      return { byte: 0, size: 0 };
    case 't':
      return { byte: 0x09, size: 1 };
    case 'n':
      return { byte: 0x0a, size: 1 };
    case 'r':
      return { byte: 0x0d, size: 1 };
    case 'x': {
      const hex = hexAt(source.slice(at + 1));
      return { byte: hex.byte, size: 1 + hex.size };
    }
  }
  const octal = /^[0-7]{1,3}/.exec(source.slice(at, at + 3))?.[0];
  if (octal !== undefined) return { byte: Number.parseInt(octal, 8), size: octal.length };
  return { byte: source.charCodeAt(at), size: 1 };
}

/** `sscanf` with `%2x`: white space is skipped, and a sign or the prefix counts among the two characters. */
function hexAt(rest: string): { readonly byte: number; readonly size: number } {
  const white = /^[ \t\n\v\f\r]*/.exec(rest)![0].length;
  const field = rest.slice(white, white + 2);
  const size = (count: number): number => white + count;
  if (/^0x/i.test(field)) return { byte: 0, size: size(2) };
  const signed = /^([+-])([0-9a-f])/i.exec(field);
  if (signed !== null) {
    const digit = Number.parseInt(signed[2]!, 16);
    return { byte: signed[1] === '-' ? -digit : digit, size: size(2) };
  }
  const digits = /^[0-9a-f]{1,2}/i.exec(field)?.[0];
  if (digits === undefined) return { byte: 'x'.charCodeAt(0), size: 0 };
  return { byte: Number.parseInt(digits, 16), size: size(digits.length) };
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A value in JSON: as text if it is UTF-8, in base64 otherwise. */
export type JsonValue = { readonly value: string } | { readonly valueBase64: string };

export function jsonValue(value: Uint8Array): JsonValue {
  try {
    return { value: decoder.decode(value) };
  } catch {
    return { valueBase64: Buffer.from(value).toString('base64') };
  }
}

export function jsonDocument(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}
