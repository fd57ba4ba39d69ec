import { createHash } from 'node:crypto';

const LENGTH_MAX = 72;

/**
 * A string of bytes for people: NUL as `|`, other unprintable bytes as `\xNN`, and a long one as its beginning, its
 * length and a digest, so that two that differ anywhere look different.
 */
export function visible(bytes: string): string {
  const text = Array.from(bytes.slice(0, LENGTH_MAX), visibleByte).join('');
  if (bytes.length <= LENGTH_MAX) return text;
  const digest = createHash('sha256').update(bytes, 'latin1').digest('hex').slice(0, 8);
  return `${text}… (${bytes.length} bytes, ${digest})`;
}

function visibleByte(char: string): string {
  const code = char.charCodeAt(0);
  if (code === 0) return '|';
  const isPlain = code >= 0x20 && code < 0x7f && char !== '|' && char !== '\\';
  return isPlain ? char : `\\x${code.toString(16).padStart(2, '0')}`;
}
