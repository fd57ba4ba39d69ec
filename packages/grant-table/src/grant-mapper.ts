import { type DomId, type GrantHandle, type GrantRef, grantHandle, grantRef } from '@virtlab/abi/brands';
import { GNTST_bad_domain, GNTST_bad_handle, GNTST_no_space, GNTST_okay } from '@virtlab/abi/grant-table';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { CopyingGrantMapper, GrantMapper, GrantTableView } from './contract.ts';
import { GrantCopier } from './grant-copier.ts';
import type { GrantCopyList } from './grant-copy-list.ts';
import { Maptrack } from './maptrack.ts';
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
  /** Mappings at once; more fail with `GNTST_no_space`. Six bytes each are reserved as they are needed. */
  readonly mapCountMax: number;
  /** The own RAM, for copies from and into own frames; that of the own table of `peers` if it is left out. */
  readonly ram?: MemoryRegion | undefined;
}

/** The mapper's side of tables of either version. A domain has one: two would not know of each other's pins. */
export function createGrantMapper(options: GrantMapperOptions): CopyingGrantMapper {
  return new MaptrackMapper(options);
}

type LiveMapping = ReturnType<GrantMapper['live']>[number];

const SLOT_WRITABLE = 0x8000;
const SLOT_MASK = 0x7fff;

class MaptrackMapper implements CopyingGrantMapper {
  readonly #domain: DomId;
  readonly #peers: GrantPeers;
  /** Peers by slot. A slot outlives its domain until the last mapping through it is gone. */
  readonly #pins: (PeerPins | undefined)[] = [undefined];
  readonly #slotOfDomain = new Map<DomId, number>();
  /** By handle the slot with the writable bit. */
  readonly #track: Maptrack;
  readonly #copier: GrantCopier;
  #lastFrame = 0;

  constructor({ domain, peers, mapCountMax, ram }: GrantMapperOptions) {
    this.#domain = domain;
    this.#peers = peers;
    this.#track = new Maptrack(mapCountMax);
    this.#copier = new GrantCopier({
      domain,
      ownRam: () => (ram ?? peers.table(domain)?.ram)?.u8,
      view: (peer) => peers.table(peer),
      pins: (peer) => this.#pinsOf(peer),
    });
  }

  get frame(): number {
    return this.#lastFrame;
  }

  map(domain: DomId, ref: GrantRef, writable: boolean): GrantHandle | number {
    const view = this.#peers.table(domain);
    if (view === undefined) return GNTST_bad_domain;
    if (this.#track.isFull) return GNTST_no_space;
    const slot = this.#slotOf(domain, view);
    if (slot < 0) return slot;
    const pins = this.#pins[slot]!;
    const status = pins.pin(ref, writable);
    if (status !== GNTST_okay) return status;
    this.#lastFrame = pins.frameOf(ref);
    return this.#track.take(writable ? slot | SLOT_WRITABLE : slot, ref);
  }

  ram(domain: DomId): MemoryRegion | undefined {
    return this.#peers.table(domain)?.ram;
  }

  unmap(handle: GrantHandle): number {
    const entry = this.#track.entryOf(handle);
    if (entry === 0) return GNTST_bad_handle;
    const slot = entry & SLOT_MASK;
    const pins = this.#pins[slot]!;
    const isConnected = this.#peers.table(pins.domain) === pins.view;
    pins.unpin(this.#track.refOf(handle), (entry & SLOT_WRITABLE) !== 0, isConnected);
    this.#track.free(handle);
    if (pins.mapCount === 0 && !isConnected) this.#forget(slot);
    return GNTST_okay;
  }

  copy(list: GrantCopyList): number {
    return this.#copier.run(list);
  }

  live(): readonly LiveMapping[] {
    const mappings: LiveMapping[] = [];
    for (let handle = 0; handle < this.#track.end; handle++) {
      const entry = this.#track.entryOf(handle);
      if (entry === 0) continue;
      mappings.push({
        handle: grantHandle(handle),
        domain: this.#pins[entry & SLOT_MASK]!.domain,
        ref: grantRef(this.#track.refOf(handle)),
        writable: (entry & SLOT_WRITABLE) !== 0,
      });
    }
    return mappings;
  }

  #pinsOf(domain: DomId): PeerPins | number {
    const view = this.#peers.table(domain);
    if (view === undefined) return GNTST_bad_domain;
    const slot = this.#slotOf(domain, view);
    return slot < 0 ? slot : this.#pins[slot]!;
  }

  #slotOf(domain: DomId, view: GrantTableView): number {
    const known = this.#slotOfDomain.get(domain);
    return known !== undefined && this.#pins[known]!.view === view ? known : this.#connect(domain, view);
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
