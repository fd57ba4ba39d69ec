import { type DomId, type GrantHandle, type GrantRef, grantHandle, grantRef } from '@virtlab/abi/brands';
import { GNTST_bad_domain, GNTST_bad_handle, GNTST_no_space, GNTST_okay } from '@virtlab/abi/grant-table';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { GrantMapper, GrantTableView } from './contract.ts';
import { PeerPins } from './peer-pins.ts';

/** How a mapper reaches the tables of others. */
export interface GrantPeers {
  /**
   * The table of a connected domain, the same object as long as it is the same domain; undefined once that is gone.
   * Asked for every map and unmap, so cheap.
   */
  table(domain: DomId): GrantTableView | undefined;
}

export interface GrantMapperOptions {
  /** The mapper itself. */
  readonly domain: DomId;
  readonly peers: GrantPeers;
  /** Mappings at once; more fail with `GNTST_no_space`. Six bytes each are reserved. */
  readonly mapCountMax: number;
}

/** The mapper's side of version 1 tables. A domain has one: two would not know of each other's pins. */
export function createGrantMapper(options: GrantMapperOptions): GrantMapper {
  return new MaptrackMapper(options);
}

type LiveMapping = ReturnType<GrantMapper['live']>[number];

const SLOT_WRITABLE = 0x8000;
const SLOT_MASK = 0x7fff;
const NO_HANDLE = -1;

class MaptrackMapper implements GrantMapper {
  readonly #domain: DomId;
  readonly #peers: GrantPeers;
  readonly #mapCountMax: number;
  /** Peers by slot. A slot outlives its domain until the last mapping through it is gone. */
  readonly #pins: (PeerPins | undefined)[] = [undefined];
  readonly #slotOfDomain = new Map<DomId, number>();
  /** The maptrack: by handle the slot (0: free) with the writable bit, and the reference, or the next free handle. */
  readonly #slots: Uint16Array;
  readonly #refs: Int32Array;
  #firstFree = NO_HANDLE;
  /** Handles from here on were never used. */
  #unusedFrom = 0;
  #lastFrame = 0;

  constructor({ domain, peers, mapCountMax }: GrantMapperOptions) {
    if (!Number.isInteger(mapCountMax) || mapCountMax < 1)
      throw new RangeError(`${mapCountMax} mappings are none`);
    this.#domain = domain;
    this.#peers = peers;
    this.#mapCountMax = mapCountMax;
    this.#slots = new Uint16Array(mapCountMax);
    this.#refs = new Int32Array(mapCountMax);
  }

  get frame(): number {
    return this.#lastFrame;
  }

  map(domain: DomId, ref: GrantRef, writable: boolean): GrantHandle | number {
    const view = this.#peers.table(domain);
    if (view === undefined) return GNTST_bad_domain;
    if (this.#firstFree === NO_HANDLE && this.#unusedFrom === this.#mapCountMax) return GNTST_no_space;
    const known = this.#slotOfDomain.get(domain);
    const slot =
      known !== undefined && this.#pins[known]!.view === view ? known : this.#connect(domain, view);
    if (slot < 0) return slot;
    const pins = this.#pins[slot]!;
    const status = pins.pin(ref, writable);
    if (status !== GNTST_okay) return status;
    this.#lastFrame = pins.frameOf(ref);
    return this.#takeHandle(writable ? slot | SLOT_WRITABLE : slot, ref);
  }

  ram(domain: DomId): MemoryRegion | undefined {
    return this.#peers.table(domain)?.ram;
  }

  unmap(handle: GrantHandle): number {
    const entry = handle >= 0 && handle < this.#unusedFrom ? this.#slots[handle] : 0;
    if (entry === undefined || entry === 0) return GNTST_bad_handle;
    const slot = entry & SLOT_MASK;
    const pins = this.#pins[slot]!;
    const isConnected = this.#peers.table(pins.domain) === pins.view;
    pins.unpin(this.#refs[handle]!, (entry & SLOT_WRITABLE) !== 0, isConnected);
    this.#slots[handle] = 0;
    this.#refs[handle] = this.#firstFree;
    this.#firstFree = handle;
    if (pins.mapCount === 0 && !isConnected) this.#forget(slot);
    return GNTST_okay;
  }

  live(): readonly LiveMapping[] {
    const mappings: LiveMapping[] = [];
    for (let handle = 0; handle < this.#unusedFrom; handle++) {
      const entry = this.#slots[handle]!;
      if (entry === 0) continue;
      mappings.push({
        handle: grantHandle(handle),
        domain: this.#pins[entry & SLOT_MASK]!.domain,
        ref: grantRef(this.#refs[handle]!),
        writable: (entry & SLOT_WRITABLE) !== 0,
      });
    }
    return mappings;
  }

  #takeHandle(entry: number, ref: number): GrantHandle {
    let handle = this.#firstFree;
    if (handle === NO_HANDLE) {
      handle = this.#unusedFrom;
      this.#unusedFrom += 1;
    } else this.#firstFree = this.#refs[handle]!;
    this.#slots[handle] = entry;
    this.#refs[handle] = ref;
    return handle as GrantHandle;
  }

  /** A slot for a domain that is new, or came again under its old number; `GNTST_no_space` if there is none. */
  #connect(domain: DomId, view: GrantTableView): number {
    for (const [slot, pins] of this.#pins.entries()) {
      if (pins?.mapCount === 0 && this.#peers.table(pins.domain) !== pins.view) this.#forget(slot);
    }
    let slot = this.#pins.indexOf(undefined, 1);
    if (slot < 0) slot = this.#pins.length;
    if (slot > SLOT_MASK) return GNTST_no_space;
    this.#pins[slot] = new PeerPins(this.#domain, domain, view);
    this.#slotOfDomain.set(domain, slot);
    return slot;
  }

  /** Gives back what was kept for a domain that is gone. */
  #forget(slot: number): void {
    const { domain } = this.#pins[slot]!;
    this.#pins[slot] = undefined;
    if (this.#slotOfDomain.get(domain) === slot) this.#slotOfDomain.delete(domain);
  }
}
