/** Longer copies go through a short-lived view and the engine's memmove; shorter ones byte by byte. */
const VIEW_COPY_SIZE_MIN = 48;

export function copyBytes(
  source: Uint8Array,
  from: number,
  target: Uint8Array,
  to: number,
  size: number,
): void {
  if (size >= VIEW_COPY_SIZE_MIN) {
    target.set(source.subarray(from, from + size), to);
    return;
  }
  for (let i = 0; i < size; i += 1) target[to + i] = source[from + i]!;
}
