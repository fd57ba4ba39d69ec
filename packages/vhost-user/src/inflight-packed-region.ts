/** The words of a packed ring's part of the in-flight area ("Inflight I/O tracking", struct QueueRegionPacked). */
import { VHOST_USER_INFLIGHT_DESC_PACKED, VHOST_USER_INFLIGHT_PACKED } from '@virtlab/abi/vhost-user';
import { VRING_PACKED_DESC_F_AVAIL, VRING_PACKED_DESC_F_USED } from '@virtlab/abi/virtio-ring';
import type { TakenDescriptor } from '@virtlab/virtio';
import { type InflightPlace, isInUse } from './inflight-area.ts';

const REGION = VHOST_USER_INFLIGHT_PACKED;
const DESC = VHOST_USER_INFLIGHT_DESC_PACKED;
const WORD = 2 ** 32;
/** The two flags of a descriptor that say whose it is. */
export const OWNER_FLAGS: number = (1 << VRING_PACKED_DESC_F_AVAIL) | (1 << VRING_PACKED_DESC_F_USED);

type RegionWord = 'version' | 'desc_num' | 'free_head' | 'old_free_head' | 'used_idx' | 'old_used_idx';
type RegionByte = 'used_wrap_counter' | 'old_used_wrap_counter';
type DescWord = 'next' | 'last' | 'num' | 'id' | 'flags';

/** The words of one region. Everything in it may have been written by the peer, and is checked where it is read. */
export class PackedRegion {
  readonly queueSize: number;
  readonly #u8: Uint8Array;
  readonly #u16: Uint16Array;
  readonly #u32: Uint32Array;
  readonly #start: number;

  constructor({ memory, offset, queueSize }: InflightPlace) {
    this.queueSize = queueSize;
    this.#u8 = memory.u8;
    this.#u16 = memory.u16;
    this.#u32 = memory.u32;
    this.#start = offset;
  }

  get(field: RegionWord): number {
    return Atomics.load(this.#u16, (this.#start + REGION.offset[field]) / 2);
  }
  set(field: RegionWord, value: number): void {
    this.#u16[(this.#start + REGION.offset[field]) / 2] = value;
  }
  getByte(field: RegionByte): number {
    return Atomics.load(this.#u8, this.#start + REGION.offset[field]);
  }
  setByte(field: RegionByte, value: number): void {
    this.#u8[this.#start + REGION.offset[field]] = value;
  }

  /**
   * Makes both used positions that of the two which counts. In between they stand for the same: of the one that is left behind,
   * the half goes first without which they are still told apart.
   */
  settlePositions(slot: number, wrap: number): void {
    if (this.get('used_idx') === slot && (this.getByte('used_wrap_counter') & 1) === wrap) {
      this.set('old_used_idx', slot);
      this.setByte('old_used_wrap_counter', wrap);
    } else {
      this.setByte('used_wrap_counter', wrap);
      this.set('used_idx', slot);
    }
  }

  isInFlight(entry: number): boolean {
    return Atomics.load(this.#u8, this.#at(entry) + DESC.offset.inflight) === 1;
  }
  setInFlight(entry: number, value: 0 | 1): void {
    this.#u8[this.#at(entry) + DESC.offset.inflight] = value;
  }
  word(entry: number, field: DescWord): number {
    return this.#u16[(this.#at(entry) + DESC.offset[field]) / 2]!;
  }
  setWord(entry: number, field: DescWord, value: number): void {
    this.#u16[(this.#at(entry) + DESC.offset[field]) / 2] = value;
  }
  counter(entry: number): number {
    const at = (this.#at(entry) + DESC.offset.counter) / 4;
    return this.#u32[at]! + this.#u32[at + 1]! * WORD;
  }
  setCounter(entry: number, counter: number): void {
    const at = (this.#at(entry) + DESC.offset.counter) / 4;
    this.#u32[at] = counter;
    this.#u32[at + 1] = counter / WORD;
  }
  descriptor(entry: number): TakenDescriptor {
    const at = this.#at(entry);
    const address = (at + DESC.offset.addr) / 4;
    return {
      addressLow: this.#u32[address]!,
      addressHigh: this.#u32[address + 1]!,
      size: this.#u32[(at + DESC.offset.len) / 4]!,
      flags: this.word(entry, 'flags') & ~OWNER_FLAGS,
    };
  }
  setDescriptor(entry: number, low: number, high: number, size: number, id: number, flags: number): void {
    const at = this.#at(entry);
    const address = (at + DESC.offset.addr) / 4;
    this.#u32[address] = low;
    this.#u32[address + 1] = high;
    this.#u32[(at + DESC.offset.len) / 4] = size;
    this.setWord(entry, 'id', id);
    this.setWord(entry, 'flags', flags);
  }
  get isInUse(): boolean {
    return isInUse(this.get('version'), this.get('desc_num'), this.queueSize);
  }
  /** Nothing was kept, from the first store on: without its version the rest of a region means nothing. */
  clear(): void {
    this.set('version', 0);
    this.#u8.fill(0, this.#start, this.#start + REGION.size + this.queueSize * DESC.size);
  }

  #at(entry: number): number {
    return this.#start + REGION.size + entry * DESC.size;
  }
}
