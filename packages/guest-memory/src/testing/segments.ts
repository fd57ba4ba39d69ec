import type { DeviceMemory } from '../dma.ts';
import type { SegmentList } from '../segment-list.ts';

/** The bytes of segments `[from, to)`, in order, as a copy. */
export function gather(
  memory: DeviceMemory,
  list: SegmentList,
  from: number = 0,
  to: number = list.count,
): Uint8Array {
  const pieces: Uint8Array[] = [];
  for (let i = from; i < to; i++) {
    const at = list.offset[i]!;
    pieces.push(memory.regions[list.region[i]!]!.u8.slice(at, at + list.size[i]!));
  }
  const bytes = new Uint8Array(pieces.reduce((size, piece) => size + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/**
 * Writes `bytes` over segments `[from, to)`, in order. Throws `RangeError` when they are not exactly as long.
 */
export function scatter(
  memory: DeviceMemory,
  list: SegmentList,
  bytes: Uint8Array,
  from: number = 0,
  to: number = list.count,
): void {
  let at = 0;
  for (let i = from; i < to; i++) {
    const size = list.size[i]!;
    memory.regions[list.region[i]!]!.u8.set(bytes.subarray(at, at + size), list.offset[i]);
    at += size;
  }
  if (at !== bytes.length) throw new RangeError(`${bytes.length} bytes for segments of ${at}`);
}
