import type { AccessWidth } from './pci-function.ts';

/** Fills `out` with registers from `offset` on, in accesses of the widths of the fields (§4.1.3.1). */
export function readBytes(
  read: (offset: number, width: AccessWidth) => number,
  offset: number,
  out: Uint8Array,
): void {
  for (let at = 0; at < out.length;) {
    const width = widthAt(offset + at, out.length - at);
    const value = read(offset + at, width);
    for (let byte = 0; byte < width; byte++) out[at + byte] = value >>> (8 * byte);
    at += width;
  }
}

/** Writes `bytes` to registers from `offset` on, likewise. */
export function writeBytes(
  write: (offset: number, width: AccessWidth, value: number) => void,
  offset: number,
  bytes: Uint8Array,
): void {
  for (let at = 0; at < bytes.length;) {
    const width = widthAt(offset + at, bytes.length - at);
    let value = 0;
    for (let byte = 0; byte < width; byte++) value += bytes[at + byte]! * 2 ** (8 * byte);
    write(offset + at, width, value);
    at += width;
  }
}

/** The widest aligned access that stays inside; drivers ask for whole fields, so each gets its own width. */
function widthAt(offset: number, left: number): AccessWidth {
  if (offset % 4 === 0 && left >= 4) return 4;
  return offset % 2 === 0 && left >= 2 ? 2 : 1;
}
