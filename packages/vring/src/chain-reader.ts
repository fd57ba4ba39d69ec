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
import type { RingViolation } from './contract.ts';
import type { ChainFault, RingChain } from './device-chain.ts';
import { IndirectTable } from './indirect-table.ts';
import {
  DESC_ADDR_HIGH,
  DESC_ADDR_LOW,
  DESC_FLAGS_NEXT,
  DESC_LEN,
  DESC_NEXT_SHIFT,
  DESC_WORDS,
  type RingViews,
} from './ring-views.ts';
import { hex, violation } from './violation.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const F_INDIRECT = VRING_DESC_F_INDIRECT;
const F_NEXT = VRING_DESC_F_NEXT;
const F_WRITE = VRING_DESC_F_WRITE;
const MAPPED = DMA_OK;
const HIGH = DESC_ADDR_HIGH;
const LOW = DESC_ADDR_LOW;
const LINK = DESC_FLAGS_NEXT;
const LEN = DESC_LEN;
const NEXT_SHIFT = DESC_NEXT_SHIFT;
const WORDS = DESC_WORDS;
const ENTRY_SIZE = VRING_DESC.size;

const SPLIT_SECTIONS: ChainSections = {
  order: '2.7.4.2',
  size: '2.7.5.2',
  buffer: '2.7.5',
  table: '2.7.5.3',
  tableLength: '2.7.5.3.1',
};

/**
 * Reads a descriptor chain of a split ring out of the driver's memory: each word of a descriptor exactly once, into locals, then
 * validates and maps. A driver that rewrites its descriptors meanwhile changes the outcome at most to another one that
 * it could have asked for honestly.
 */
export class ChainReader {
  readonly #ring: RingViews;
  readonly #indirect: boolean;
  readonly #table: IndirectTable;
  /** The chain goes on in the table, which is open. */
  #isInTable = false;
  #violation: RingViolation | undefined = undefined;

  constructor(ring: RingViews, memory: DeviceMemory, indirect: boolean, segmentCountMax: number) {
    this.#ring = ring;
    this.#indirect = indirect;
    this.#table = new IndirectTable(memory, indirect ? ring.size : 0, segmentCountMax);
  }

  /** Why `read` last answered false. */
  get violation(): RingViolation | undefined {
    return this.#violation;
  }

  /** Fills the empty `chain` with what hangs on `head` (already in range). On false nothing stays mapped. */
  read(chain: RingChain, head: number): boolean {
    const isFilled = this.#fill(chain, head);
    if (this.#isInTable) {
      this.#isInTable = false;
      this.#table.close();
    }
    if (!isFilled) chain.unmap();
    return isFilled;
  }

  #fill(chain: RingChain, head: number): boolean {
    const queueSize = this.#ring.size;
    let words = this.#ring.desc32;
    let base = this.#ring.descBase;
    let limit = queueSize;
    let index = head;
    let count = 0;
    for (;;) {
      // Below 2^30 words: kept an integer, or all of this becomes floating-point arithmetic.
      const at = (base + index * WORDS) | 0;
      const low = words[at + LOW]!;
      const high = words[at + HIGH]!;
      const length = words[at + LEN]!;
      const flags = words[at + LINK]!;
      if ((flags & F_INDIRECT) !== 0) {
        if (this.#isInTable) return this.#rejectNested(index);
        limit = this.#openTable(index, low, high, length, flags);
        if (limit === 0) return false;
        words = this.#table.words;
        base = this.#table.base | 0;
        index = 0;
        continue;
      }
      if (++count > queueSize) return this.#rejectLength(head);
      const status = chain.append(low, high, length, (flags & F_WRITE) !== 0);
      if (status !== MAPPED) return this.#rejectBuffer(chain, status, index, low, high, length);
      if ((flags & F_NEXT) === 0) break;
      index = flags >>> NEXT_SHIFT;
      if (index >= limit) return this.#rejectNext(index, limit);
    }
    chain.descriptorCount = count;
    return true;
  }

  /** Checks and opens an indirect table; entries in it, or 0 with the violation set. */
  #openTable(index: number, low: number, high: number, size: number, flags: number): number {
    if (!this.#indirect || (flags & F_NEXT) !== 0) return this.#refuseIndirect(index, flags);
    const queueSize = this.#ring.size;
    if (!isTableSize(size, queueSize)) {
      this.#violation = tableSizeViolation(SPLIT_SECTIONS, `Descriptor ${hex(index)}`, size, queueSize);
      return 0;
    }
    const status = this.#table.open(low, high, size);
    if (status === MAPPED) {
      this.#isInTable = true;
      return size / ENTRY_SIZE;
    }
    this.#violation = tableViolation(SPLIT_SECTIONS, status, `descriptor ${hex(index)}`, low, high, size);
    return 0;
  }

  #name(index: number): string {
    return this.#isInTable ? `indirect table entry ${hex(index)}` : `descriptor ${hex(index)}`;
  }

  #rejectBuffer(
    chain: RingChain,
    status: DmaStatus | ChainFault,
    index: number,
    low: number,
    high: number,
    size: number,
  ): boolean {
    const name = this.#name(index);
    return this.#reject(bufferViolation(SPLIT_SECTIONS, chain, status, name, low, high, size));
  }

  #rejectNested(index: number): boolean {
    return this.#reject(violation('2.7.5.3.1', `${this.#name(index)} is itself indirect`));
  }

  #rejectLength(head: number): boolean {
    const message = `Chain at ${hex(head)} is longer than the queue size ${hex(this.#ring.size)}, or a loop`;
    return this.#reject(violation('2.7.5.3.1', message));
  }

  #rejectNext(next: number, limit: number): boolean {
    const where = this.#isInTable ? 'indirect table' : 'descriptor table';
    const message = `next ${hex(next)} is outside the ${where} of ${hex(limit)} entries`;
    return this.#reject(violation('2.7.5', message));
  }

  #refuseIndirect(index: number, flags: number): number {
    const what = `Descriptor ${hex(index)} has flags ${hex(flags & 0xffff)}`;
    this.#violation = this.#indirect
      ? violation('2.7.5.3.1', `${what}: NEXT together with INDIRECT`)
      : violation('2.7.5.3.1', `${what}: INDIRECT, but VIRTIO_F_INDIRECT_DESC was not negotiated`);
    return 0;
  }

  #reject(reason: RingViolation): boolean {
    this.#violation = reason;
    return false;
  }
}
