/**
 * Device configuration as 32-bit words of the configuration page. Word by word and atomically: a sequence lock needs its
 * data ordered against its counter, and plain accesses are not, on arm64.
 */

export function wordCount(size: number): number {
  return Math.ceil(size / 4);
}

/** Copies `count` words from `from[at]` on, each read once. */
export function loadWords(from: Uint32Array, at: number, count: number): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(count);
  for (let index = 0; index < count; index += 1) words[index] = Atomics.load(from, at + index);
  return words;
}

export function storeWords(to: Uint32Array, at: number, words: Uint32Array): void {
  for (let index = 0; index < words.length; index += 1) Atomics.store(to, at + index, words[index]!);
}
