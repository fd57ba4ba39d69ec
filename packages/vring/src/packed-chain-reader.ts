import {
  VRING_DESC,
  VRING_DESC_F_INDIRECT,
  VRING_DESC_F_NEXT,
  VRING_DESC_F_WRITE,
} from '@virtlab/abi/virtio-ring';
import { type DeviceMemory, DMA_OK, type DmaStatus } from '@virtlab/guest-memory';
import {
  bufferViolation,
  type ChainSections,
  isTableSize,
  tableSizeViolation,
  tableViolation,
} from './chain-fault.ts';
import type { RingViolation, TakenChain } from './contract.ts';
import type { ChainFault, RingChain } from './device-chain.ts';
import { IndirectTable } from './indirect-table.ts';
import {
  PACKED_FLAGS_SHIFT,
  PACKED_HIGH,
  PACKED_ID_FLAGS,
  PACKED_ID_MASK,
  PACKED_LEN,
  PACKED_LOW,
  PACKED_OWNER_BITS,
  PACKED_WORDS,
  type PackedViews,
} from './packed-views.ts';
import { hex, violation } from './violation.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const F_INDIRECT = VRING_DESC_F_INDIRECT << PACKED_FLAGS_SHIFT;
const F_NEXT = VRING_DESC_F_NEXT << PACKED_FLAGS_SHIFT;
const F_WRITE = VRING_DESC_F_WRITE << PACKED_FLAGS_SHIFT;
const MAPPED = DMA_OK;
const HIGH = PACKED_HIGH;
const LOW = PACKED_LOW;
const FLAGS_SHIFT = PACKED_FLAGS_SHIFT;
const ID_FLAGS = PACKED_ID_FLAGS;
const ID_MASK = PACKED_ID_MASK;
const LEN = PACKED_LEN;
const OWNER = PACKED_OWNER_BITS;
const WORDS = PACKED_WORDS;
const ENTRY_SIZE = VRING_DESC.size;

const PACKED_SECTIONS: ChainSections = {
  order: '2.8.17',
  size: '2.8.4',
  buffer: '2.8.4',
  table: '2.8.7',
  tableLength: '2.8.17',
};

/**
 * Reads a descriptor chain of a packed ring out of the driver's memory, as `ChainReader` does for a split one. The
 * chain lies in slots that follow one another; its buffer id stands in the last (VIRTIO 1.4 §2.8.6).
 */
export class PackedChainReader {
  /** Buffer id that `read` found, unchecked. */
  id = 0;
  readonly #ring: PackedViews;
  readonly #indirect: boolean;
  readonly #table: IndirectTable;
  #violation: RingViolation | undefined = undefined;

  constructor(ring: PackedViews, memory: DeviceMemory, indirect: boolean, segmentCountMax: number) {
    this.#ring = ring;
    this.#indirect = indirect;
    this.#table = new IndirectTable(memory, indirect ? ring.size : 0, segmentCountMax);
  }

  /** Why `read` last answered false. */
  get violation(): RingViolation | undefined {
    return this.#violation;
  }

  /**
   * Fills the empty `chain` from slot `head`, whose last word `headWord` was loaded with acquire; the chain may take
   * `room` slots. On false nothing stays mapped.
   */
  read(chain: RingChain, head: number, headWord: number, room: number): boolean {
    const ring = this.#ring;
    const words = ring.desc32;
    let owner = headWord & OWNER;
    let word = headWord;
    let slot = head;
    let count = 0;
    for (;;) {
      const at = ring.descBase + slot * WORDS;
      const low = words[at + LOW]! >>> 0;
      const high = words[at + HIGH]! >>> 0;
      const length = words[at + LEN]! >>> 0;
      if (count === room) return this.#rejectRoom(chain, head, room);
      chain.keep(count, low, high, length, (word & ~OWNER) >>> FLAGS_SHIFT);
      count++;
      if ((word & F_INDIRECT) !== 0) {
        if (count > 1 || (word & F_NEXT) !== 0 || !this.#indirect) {
          return this.#rejectIndirect(chain, slot, word);
        }
        this.id = word & ID_MASK;
        return this.#readTable(chain, slot, low, high, length);
      }
      const status = chain.append(low, high, length, (word & F_WRITE) !== 0);
      if (status !== MAPPED) return this.#rejectBuffer(chain, status, slot, low, high, length);
      if ((word & F_NEXT) === 0) break;
      if (++slot === ring.size) {
        slot = 0;
        owner ^= OWNER;
      }
      word = words[ring.descBase + slot * WORDS + ID_FLAGS]!;
      if ((word & OWNER) !== owner) return this.#rejectUnavailable(chain, head, slot);
    }
    this.id = word & ID_MASK;
    chain.descriptorCount = count;
    chain.slotCount = count;
    return true;
  }

  /** Fills the empty `chain` from descriptors that were kept, and are not in the ring any more. As `read`. */
  readTaken(chain: RingChain, { head, descriptors = [] }: TakenChain): boolean {
    const { size } = this.#ring;
    if (descriptors.length === 0 || descriptors.length > size) {
      const message = `Buffer ${hex(head)} was kept with ${descriptors.length} descriptors`;
      return this.#reject(chain, violation('2.8.17', message));
    }
    for (const [
      index,
      { addressLow: low, addressHigh: high, size: length, flags },
    ] of descriptors.entries()) {
      const word = flags << PACKED_FLAGS_SHIFT;
      chain.keep(index, low, high, length, flags);
      if ((word & F_INDIRECT) !== 0) {
        if (descriptors.length > 1 || !this.#indirect) return this.#rejectIndirect(chain, index, word);
        return this.#readTable(chain, index, low, high, length);
      }
      const status = chain.append(low, high, length, (word & F_WRITE) !== 0);
      if (status !== MAPPED) return this.#rejectBuffer(chain, status, index, low, high, length);
    }
    chain.descriptorCount = descriptors.length;
    chain.slotCount = descriptors.length;
    return true;
  }

  /** Entries follow one another, as many as the length says; of their flags only WRITE has a meaning (§2.8.7). */
  #readTable(chain: RingChain, slot: number, low: number, high: number, size: number): boolean {
    const queueSize = this.#ring.size;
    if (!isTableSize(size, queueSize)) {
      const what = `Descriptor ${hex(slot)}`;
      return this.#reject(chain, tableSizeViolation(PACKED_SECTIONS, what, size, queueSize));
    }
    const table = this.#table;
    const opened = table.open(low, high, size);
    if (opened !== MAPPED) {
      const what = `descriptor ${hex(slot)}`;
      return this.#reject(chain, tableViolation(PACKED_SECTIONS, opened, what, low, high, size));
    }
    const count = size / ENTRY_SIZE;
    const isFilled = this.#fill(chain, table.words, table.base, count);
    table.close();
    if (!isFilled) return false;
    chain.descriptorCount = count;
    chain.slotCount = 1;
    return true;
  }

  #fill(chain: RingChain, words: Uint32Array, base: number, count: number): boolean {
    for (let i = 0; i < count; i++) {
      const at = base + i * WORDS;
      const writable = (words[at + ID_FLAGS]! & F_WRITE) !== 0;
      const low = words[at + LOW]!;
      const high = words[at + HIGH]!;
      const length = words[at + LEN]!;
      const status = chain.append(low, high, length, writable);
      if (status !== MAPPED) return this.#rejectEntry(chain, i, status, low, high, length);
    }
    return true;
  }

  #rejectBuffer(
    chain: RingChain,
    status: DmaStatus | ChainFault,
    slot: number,
    low: number,
    high: number,
    size: number,
  ): boolean {
    const name = `descriptor ${hex(slot)}`;
    return this.#reject(chain, bufferViolation(PACKED_SECTIONS, chain, status, name, low, high, size));
  }

  #rejectEntry(
    chain: RingChain,
    entry: number,
    status: DmaStatus | ChainFault,
    low: number,
    high: number,
    size: number,
  ): boolean {
    const name = `indirect table entry ${hex(entry)}`;
    return this.#reject(chain, bufferViolation(PACKED_SECTIONS, chain, status, name, low, high, size));
  }

  /** A ring full of descriptors that the device has holds no other one that the driver might give (§2.8.17). */
  #rejectRoom(chain: RingChain, head: number, room: number): boolean {
    const of = `of the queue's ${hex(this.#ring.size)} descriptors`;
    const message = `Chain at ${hex(head)} goes beyond the ${hex(room)} ${of} that the driver may have made available`;
    return this.#reject(chain, violation('2.8.17', message));
  }

  #rejectUnavailable(chain: RingChain, head: number, slot: number): boolean {
    const message = `Chain at ${hex(head)} goes on in descriptor ${hex(slot)}, which is not available`;
    return this.#reject(chain, violation('2.8.17', message));
  }

  #rejectIndirect(chain: RingChain, slot: number, word: number): boolean {
    const what = `Descriptor ${hex(slot)} has flags ${hex(word >>> PACKED_FLAGS_SHIFT)}`;
    const why = this.#indirect
      ? 'INDIRECT in a chain of descriptors'
      : 'INDIRECT, but VIRTIO_F_INDIRECT_DESC was not negotiated';
    return this.#reject(chain, violation('2.8.19', `${what}: ${why}`));
  }

  #reject(chain: RingChain, reason: RingViolation): boolean {
    this.#violation = reason;
    chain.unmap();
    return false;
  }
}
