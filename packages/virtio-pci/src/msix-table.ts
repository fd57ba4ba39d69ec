import {
  PCI_MSIX_ENTRY,
  PCI_MSIX_ENTRY_CTRL_MASKBIT,
  PCI_MSIX_ENTRY_SIZE,
  PCI_MSIX_FLAGS_QSIZE,
} from '@virtlab/abi/pci';
import { type AccessWidth, type MsiSink, allOnes } from './pci-function.ts';

const WORD_SIZE = 4;
const ENTRY_WORDS: number = PCI_MSIX_ENTRY_SIZE / WORD_SIZE;
const LOWER_ADDR: number = PCI_MSIX_ENTRY.offset.lower_addr / WORD_SIZE;
const UPPER_ADDR: number = PCI_MSIX_ENTRY.offset.upper_addr / WORD_SIZE;
const DATA: number = PCI_MSIX_ENTRY.offset.data / WORD_SIZE;
const VECTOR_CTRL: number = PCI_MSIX_ENTRY.offset.vector_ctrl / WORD_SIZE;
/** Pending bits come in 64-bit words (PCI §6.8.2.10). */
const PENDING_WORD_SIZE = 8;
const PENDING_WORD_BITS: number = PENDING_WORD_SIZE * 8;

/** Most entries that the size field of message control can express. */
export const MSIX_VECTOR_COUNT_MAX: number = PCI_MSIX_FLAGS_QSIZE + 1;

/**
 * The MSI-X table and pending bit array of a function (PCI §6.8.2). A vector fired while it, or the function, is
 * masked, or while the function may not master the bus, stays pending and is sent once that ends: no call is lost.
 *
 * Software must access the structures in aligned double words (PCI §6.8.2); other accesses read all ones and write
 * nothing.
 */
export class MsixTable {
  readonly vectorCount: number;
  /** Bytes of each structure. */
  readonly tableSize: number;
  readonly pendingSize: number;
  /** Messages sent. */
  messageCount = 0;

  readonly #sink: MsiSink;
  readonly #entries: Uint32Array;
  readonly #pending: Uint32Array;
  #open = false;

  constructor(vectorCount: number, sink: MsiSink) {
    if (!Number.isInteger(vectorCount) || vectorCount < 0 || vectorCount > MSIX_VECTOR_COUNT_MAX) {
      throw new RangeError(`${vectorCount} MSI-X vectors: 0 to ${MSIX_VECTOR_COUNT_MAX} are possible`);
    }
    this.vectorCount = vectorCount;
    this.tableSize = vectorCount * PCI_MSIX_ENTRY_SIZE;
    this.pendingSize = Math.ceil(vectorCount / PENDING_WORD_BITS) * PENDING_WORD_SIZE;
    this.#sink = sink;
    this.#entries = new Uint32Array(vectorCount * ENTRY_WORDS);
    this.#pending = new Uint32Array(this.pendingSize / WORD_SIZE);
    for (let vector = 0; vector < vectorCount; vector++) {
      this.#entries[vector * ENTRY_WORDS + VECTOR_CTRL] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
    }
  }

  read(offset: number, width: AccessWidth): number {
    return isDoubleWord(offset, width, this.tableSize) ? this.#entries[offset / WORD_SIZE]! : allOnes(width);
  }

  write(offset: number, width: AccessWidth, value: number): void {
    if (!isDoubleWord(offset, width, this.tableSize)) return;
    const word = offset / WORD_SIZE;
    if (word % ENTRY_WORDS !== VECTOR_CTRL) {
      this.#entries[word] = value;
      return;
    }
    this.#entries[word] = value & PCI_MSIX_ENTRY_CTRL_MASKBIT;
    this.#sendIfPending((word - VECTOR_CTRL) / ENTRY_WORDS);
  }

  /** The pending bit array is read-only (PCI §6.8.2.10). */
  readPending(offset: number, width: AccessWidth): number {
    return isDoubleWord(offset, width, this.pendingSize)
      ? this.#pending[offset / WORD_SIZE]!
      : allOnes(width);
  }

  /** Whether messages may leave now: enabled, function not masked, bus mastering allowed. */
  setOpen(open: boolean): void {
    if (this.#open === open) return;
    this.#open = open;
    if (!open) return;
    for (let word = 0; word < this.#pending.length; word++) {
      if (this.#pending[word] === 0) continue;
      for (let bit = 0; bit < 32; bit++) this.#sendIfPending(word * 32 + bit);
    }
  }

  fire(vector: number): void {
    if (vector >= this.vectorCount) return;
    if (this.#open && !this.#isMasked(vector)) this.#send(vector);
    else this.#pending[vector >>> 5]! |= 1 << (vector & 31);
  }

  /** What was pending concerned a life of the device that is over. */
  clearPending(): void {
    this.#pending.fill(0);
  }

  #sendIfPending(vector: number): void {
    const bit = 1 << (vector & 31);
    if (!this.#open || (this.#pending[vector >>> 5]! & bit) === 0 || this.#isMasked(vector)) return;
    this.#pending[vector >>> 5]! &= ~bit;
    this.#send(vector);
  }

  #isMasked(vector: number): boolean {
    return (this.#entries[vector * ENTRY_WORDS + VECTOR_CTRL]! & PCI_MSIX_ENTRY_CTRL_MASKBIT) !== 0;
  }

  #send(vector: number): void {
    const entry = vector * ENTRY_WORDS;
    const entries = this.#entries;
    this.messageCount++;
    this.#sink.send(entries[entry + LOWER_ADDR]!, entries[entry + UPPER_ADDR]!, entries[entry + DATA]!);
  }
}

function isDoubleWord(offset: number, width: AccessWidth, size: number): boolean {
  return width === WORD_SIZE && offset % WORD_SIZE === 0 && offset >= 0 && offset + WORD_SIZE <= size;
}
