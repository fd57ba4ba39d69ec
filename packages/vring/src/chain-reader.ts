import {
  VRING_DESC,
  VRING_DESC_F_INDIRECT,
  VRING_DESC_F_NEXT,
  VRING_DESC_F_WRITE,
} from '@virtlab/abi/virtio-ring';
import { type DeviceMemory, DMA_OK, SegmentList } from '@virtlab/guest-memory';
import type { RingViolation } from './contract.ts';
import type { RingChain } from './device-chain.ts';
import {
  DESC_ADDR_HIGH,
  DESC_ADDR_LOW,
  DESC_FLAGS_NEXT,
  DESC_LEN,
  DESC_NEXT_SHIFT,
  DESC_WORDS,
  type RingViews,
} from './ring-views.ts';
import { faultText, hex, hexAddress, violation } from './violation.ts';

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

/** Bytes in one chain at most: `used_elem.len` could not name more (§2.7.5.2 allows one byte more). */
const CHAIN_SIZE_MAX = 0xffff_ffff;

/**
 * Reads a descriptor chain out of the driver's memory: each word exactly once, into locals or into the private copy of
 * an indirect table, then validates and maps. A driver that rewrites its descriptors meanwhile changes the outcome at
 * most to another one that it could have asked for honestly.
 */
export class ChainReader {
  readonly #ring: RingViews;
  readonly #memory: DeviceMemory;
  readonly #indirect: boolean;
  /** Private copy of the indirect table being walked; as large as a legal table may be. */
  readonly #table: Uint32Array;
  readonly #tableBytes: Uint8Array;
  readonly #tableSegments: SegmentList;
  #violation: RingViolation | undefined = undefined;

  constructor(ring: RingViews, memory: DeviceMemory, indirect: boolean, segmentCountMax: number) {
    this.#ring = ring;
    this.#memory = memory;
    this.#indirect = indirect;
    this.#table = new Uint32Array(indirect ? ring.size * WORDS : 0);
    this.#tableBytes = new Uint8Array(this.#table.buffer);
    this.#tableSegments = new SegmentList(Math.min(8, segmentCountMax), segmentCountMax);
  }

  /** Why `read` last answered false. */
  get violation(): RingViolation | undefined {
    return this.#violation;
  }

  /** Fills the empty `chain` with what hangs on `head` (already in range). On false nothing stays mapped. */
  read(chain: RingChain, head: number): boolean {
    const memory = this.#memory;
    const segments = chain.segments;
    const queueSize = this.#ring.size;
    let words = this.#ring.desc32;
    let base = this.#ring.descBase;
    let limit = queueSize;
    let index = head;
    let count = 0;
    let size = 0;
    let readableSize = 0;
    let readableCount = 0;
    let writable = false;
    for (;;) {
      const at = base + index * WORDS;
      const low = words[at + LOW]!;
      const high = words[at + HIGH]!;
      const length = words[at + LEN]!;
      const flags = words[at + LINK]!;
      if ((flags & F_INDIRECT) !== 0) {
        if (words === this.#table) return this.#rejectNested(chain, index);
        limit = this.#openTable(index, low, high, length, flags);
        if (limit === 0) return this.#drop(chain);
        words = this.#table;
        base = 0;
        index = 0;
        continue;
      }
      if (++count > queueSize) return this.#rejectLength(chain, head);
      size += length;
      if (size > CHAIN_SIZE_MAX) return this.#rejectSize(chain, head, size);
      if ((flags & F_WRITE) !== 0) {
        if (!writable) {
          writable = true;
          readableSize = size - length;
          readableCount = segments.count;
        }
      } else if (writable) return this.#rejectOrder(chain, index, words);
      if (length !== 0) {
        const status = memory.map(low, high, length, writable, segments);
        if (status !== MAPPED) {
          const where = `${hexAddress(low, high)}, ${hex(length)} bytes, of ${this.#name(index, words)}`;
          return this.#reject(chain, '2.7.5', `Buffer at ${where} ${faultText(status)}`);
        }
      }
      if ((flags & F_NEXT) === 0) break;
      index = flags >>> NEXT_SHIFT;
      if (index >= limit) return this.#rejectNext(chain, index, limit, words);
    }
    chain.descriptorCount = count;
    chain.readableCount = writable ? readableCount : segments.count;
    chain.readableSize = writable ? readableSize : size;
    chain.writableSize = writable ? size - readableSize : 0;
    return true;
  }

  /** Checks and copies an indirect table; entries in it, or 0 with the violation set. */
  #openTable(index: number, low: number, high: number, size: number, flags: number): number {
    if (!this.#indirect || (flags & F_NEXT) !== 0) return this.#refuseIndirect(index, flags);
    const entries = size / VRING_DESC.size;
    if (size === 0 || size % VRING_DESC.size !== 0 || entries > this.#ring.size) {
      return this.#refuseTableSize(index, size);
    }
    const segments = this.#tableSegments;
    const status = this.#memory.map(low, high, size, false, segments);
    if (status !== MAPPED) {
      const where = `Indirect table at ${hexAddress(low, high)}, ${hex(size)} bytes, of descriptor ${hex(index)}`;
      this.#violation = violation('2.7.5.3', `${where} ${faultText(status)}`);
      return 0;
    }
    this.#copyTable();
    this.#memory.unmap(segments, 0, segments.count);
    segments.clear();
    return entries;
  }

  /** The table may lie anywhere, at any alignment, over any number of segments (§2.7.5.3). */
  #copyTable(): void {
    const { region, offset, size, count } = this.#tableSegments;
    let to = 0;
    for (let i = 0; i < count; i++) {
      const { u8, u32 } = this.#memory.regions[region[i]!]!;
      const from = offset[i]!;
      const bytes = size[i]!;
      if (((from | bytes | to) & 3) === 0) {
        for (let at = 0; at < bytes; at += 4) this.#table[(to + at) >>> 2] = u32[(from + at) >>> 2]!;
      } else {
        for (let at = 0; at < bytes; at++) this.#tableBytes[to + at] = u8[from + at]!;
      }
      to += bytes;
    }
  }

  #name(index: number, words: Uint32Array): string {
    return words === this.#table ? `indirect table entry ${hex(index)}` : `descriptor ${hex(index)}`;
  }

  #rejectNested(chain: RingChain, index: number): boolean {
    return this.#reject(chain, '2.7.5.3.1', `${this.#name(index, this.#table)} is itself indirect`);
  }

  #rejectLength(chain: RingChain, head: number): boolean {
    const most = hex(this.#ring.size);
    return this.#reject(
      chain,
      '2.7.5.3.1',
      `Chain at ${hex(head)} is longer than the queue size ${most}, or a loop`,
    );
  }

  #rejectSize(chain: RingChain, head: number, size: number): boolean {
    return this.#reject(
      chain,
      '2.7.5.2',
      `Chain at ${hex(head)} has ${hex(size)} bytes or more, over ${hex(CHAIN_SIZE_MAX)}`,
    );
  }

  #rejectOrder(chain: RingChain, index: number, words: Uint32Array): boolean {
    return this.#reject(
      chain,
      '2.7.4.2',
      `${this.#name(index, words)} is device-readable after a device-writable one`,
    );
  }

  #rejectNext(chain: RingChain, next: number, limit: number, words: Uint32Array): boolean {
    const where = words === this.#table ? 'indirect table' : 'descriptor table';
    return this.#reject(chain, '2.7.5', `next ${hex(next)} is outside the ${where} of ${hex(limit)} entries`);
  }

  #reject(chain: RingChain, section: string, message: string): boolean {
    this.#violation = violation(section, message);
    return this.#drop(chain);
  }

  #refuseIndirect(index: number, flags: number): number {
    const what = `Descriptor ${hex(index)} has flags ${hex(flags & 0xffff)}`;
    this.#violation = this.#indirect
      ? violation('2.7.5.3.1', `${what}: NEXT together with INDIRECT`)
      : violation('2.7.5.3.1', `${what}: INDIRECT, but VIRTIO_F_INDIRECT_DESC was not negotiated`);
    return 0;
  }

  #refuseTableSize(index: number, size: number): number {
    const what = `Descriptor ${hex(index)} has an indirect table of ${hex(size)} bytes`;
    this.#violation =
      size === 0 || size % VRING_DESC.size !== 0
        ? violation('2.7.5.3', `${what}, which is not a multiple of 0x10 above 0`)
        : violation('2.7.5.3.1', `${what}, more than the queue size of ${hex(this.#ring.size)} entries`);
    return 0;
  }

  #drop(chain: RingChain): boolean {
    chain.unmap();
    return false;
  }
}
