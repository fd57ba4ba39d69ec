import type { MemoryRegion } from '@virtlab/guest-memory';

/** Longer copies go through a short-lived view and the engine's memmove; shorter ones byte by byte. */
const VIEW_COPY_SIZE_MIN = 32;
/** Up to here a loop over words is faster than making that view, which takes as long as 25 words. */
const WORD_COPY_SIZE_MAX = 128;
const WORD_SIZE = 4;
const WORD_SHIFT = 2;

export function copyBytes(
  source: Uint8Array,
  from: number,
  target: Uint8Array,
  to: number,
  size: number,
): void {
  if (size < VIEW_COPY_SIZE_MIN) {
    for (let i = 0; i < size; i += 1) target[to + i] = source[from + i]!;
  } else if (size === source.length) {
    target.set(source, to);
  } else {
    target.set(source.subarray(from, from + size), to);
  }
}

/** The same between memories that can be reached in words. */
export function copyRegion(
  source: MemoryRegion,
  from: number,
  target: MemoryRegion,
  to: number,
  size: number,
): void {
  if (size > WORD_COPY_SIZE_MAX || ((from | to) & (WORD_SIZE - 1)) !== 0) {
    copyBytes(source.u8, from, target.u8, to, size);
    return;
  }
  const sourceWords = source.i32;
  const targetWords = target.i32;
  const first = from >>> WORD_SHIFT;
  const targetFirst = to >>> WORD_SHIFT;
  const count = size >>> WORD_SHIFT;
  for (let i = 0; i < count; i += 1) targetWords[targetFirst + i] = sourceWords[first + i]!;
  const { u8 } = source;
  for (let i = count * WORD_SIZE; i < size; i += 1) target.u8[to + i] = u8[from + i]!;
}
