import type { DomId, GrantHandle, GrantRef } from '@virtlab/abi/brands';
import { GNTST_okay } from '@virtlab/abi/grant-table';
import type { GrantMapper } from '@virtlab/grant-table';

/** More references than any grant table has, and so few that twice as many still make a handle of a `SegmentList`. */
export const REF_MAX: number = 2 ** 30 - 1;

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const OKAY = GNTST_okay;

/** Two slots a reference: mapped for reading, mapped for writing. */
const CAPACITY_INITIAL = 128;

/**
 * The pages of one frontend that are mapped now, each once however often it is used: Xen counts only so many mappings of an
 * entry (`GNTPIN_incr2oflow_mask`), which a page full of request headers would exceed. A slot is `ref * 2 + writable`. The
 * tables grow with the highest reference that could be mapped, so with the frontend's grant table and not with what it
 * claims.
 */
export class MappedPages {
  readonly #mapper: GrantMapper;
  readonly #domain: DomId;
  #useCount = new Uint32Array(CAPACITY_INITIAL);
  #handle = new Int32Array(CAPACITY_INITIAL);
  #frame = new Uint32Array(CAPACITY_INITIAL);
  /** Pages mapped. */
  count = 0;

  constructor(mapper: GrantMapper, domain: DomId) {
    this.#mapper = mapper;
    this.#domain = domain;
  }

  /** One more use of a page; `GNTST_okay`, or why the page could not be mapped. */
  acquire(ref: number, writable: boolean): number {
    const slot = ref * 2 + (writable ? 1 : 0);
    if (slot < this.#useCount.length && this.#useCount[slot]! > 0) {
      this.#useCount[slot]! += 1;
      return OKAY;
    }
    const handle = this.#mapper.map(this.#domain, ref as GrantRef, writable);
    if (handle < 0) return handle;
    if (slot >= this.#useCount.length) this.#grow(slot);
    this.#useCount[slot] = 1;
    this.#handle[slot] = handle;
    this.#frame[slot] = this.#mapper.frame;
    this.count += 1;
    return OKAY;
  }

  frameOf(slot: number): number {
    return this.#frame[slot]!;
  }

  /** Ends one use. Throws `RangeError` for a page that is not mapped: a bug of the device's. */
  release(slot: number): void {
    const useCount = slot < this.#useCount.length ? this.#useCount[slot]! : 0;
    if (useCount === 0) throw new RangeError(`Grant reference ${slot >>> 1} is not mapped`);
    this.#useCount[slot] = useCount - 1;
    if (useCount > 1) return;
    this.#mapper.unmap(this.#handle[slot]! as GrantHandle);
    this.count -= 1;
  }

  #grow(slot: number): void {
    let capacity = this.#useCount.length;
    while (capacity <= slot) capacity *= 2;
    const useCount = new Uint32Array(capacity);
    const handle = new Int32Array(capacity);
    const frame = new Uint32Array(capacity);
    useCount.set(this.#useCount);
    handle.set(this.#handle);
    frame.set(this.#frame);
    this.#useCount = useCount;
    this.#handle = handle;
    this.#frame = frame;
  }
}
