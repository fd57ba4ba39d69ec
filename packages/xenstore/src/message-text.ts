import { byteString } from './byte-string.ts';
import { operationName } from './operation-names.ts';

const NAMED: ReadonlyMap<number, string> = new Map([
  [0x09, '\\t'],
  [0x0a, '\\n'],
  [0x0d, '\\r'],
  [0x5c, '\\\\'],
]);

/** Bytes of a payload that a line shows. */
const SHOWN_SIZE = 96;

/** Printable characters as they are, the others as `xenstore-ls` shows them: `\t`, `\n`, `\r`, `\\`, octal `\001`. */
export function escapeBytes(bytes: string): string {
  if (/^[\x20-\x5b\x5d-\x7e]*$/.test(bytes)) return bytes;
  let text = '';
  for (let i = 0; i < bytes.length; i++) {
    const code = bytes.charCodeAt(i);
    const isPlain = code >= 0x20 && code <= 0x7e && code !== 0x5c;
    text += isPlain
      ? bytes.charAt(i)
      : (NAMED.get(code) ?? `\\${(code & 0xff).toString(8).padStart(3, '0')}`);
  }
  return text;
}

/** One message on one line: `READ req 1 tx 0 len 5 "/a\000"`; long payloads are cut. */
export function messageText(type: number, reqId: number, txId: number, payload: string | Uint8Array): string {
  const size = payload.length;
  const shown =
    typeof payload === 'string'
      ? payload.slice(0, SHOWN_SIZE)
      : byteString(payload, 0, Math.min(size, SHOWN_SIZE));
  const rest = size > SHOWN_SIZE ? ` and ${size - SHOWN_SIZE} more` : '';
  return `${operationName(type)} req ${reqId} tx ${txId} len ${size} "${escapeBytes(shown)}"${rest}`;
}
