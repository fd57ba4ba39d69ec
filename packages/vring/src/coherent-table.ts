/** Indirect tables that a driver keeps in coherent memory of its own, for `DriverQueue.addTable`. */
import { VRING_DESC_F_NEXT, VRING_DESC_F_WRITE } from '@virtlab/abi/virtio-ring';
import { PACKED_FLAGS_SHIFT } from './packed-views.ts';
import {
  DESC_ADDR_HIGH,
  DESC_ADDR_LOW,
  DESC_FLAGS_NEXT,
  DESC_LEN,
  DESC_NEXT_SHIFT,
  DESC_WORDS,
} from './ring-views.ts';

/** 32-bit words of an entry. */
export const TABLE_ENTRY_WORDS: number = DESC_WORDS;

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const LOW = DESC_ADDR_LOW;
const HIGH = DESC_ADDR_HIGH;
const LEN = DESC_LEN;
const LINK = DESC_FLAGS_NEXT;

/**
 * The last word of entry `index` in a table of `count`: its flags and, in a split ring's, the entry that follows (§2.7.5.3);
 * those of a packed ring's follow one another (§2.8.7).
 */
export function tableLink(index: number, count: number, isWritable: boolean, isPacked: boolean): number {
  const flags = isWritable ? VRING_DESC_F_WRITE : 0;
  if (isPacked) return flags << PACKED_FLAGS_SHIFT;
  return index + 1 === count ? flags : flags | VRING_DESC_F_NEXT | ((index + 1) << DESC_NEXT_SHIFT);
}

/** Writes the entry at word `at`: an address, bytes, and its `tableLink`. */
export function writeTableEntry(
  words: Uint32Array,
  at: number,
  addressLow: number,
  addressHigh: number,
  size: number,
  link: number,
): void {
  words[at + LOW] = addressLow;
  words[at + HIGH] = addressHigh;
  words[at + LEN] = size;
  words[at + LINK] = link;
}
