import type { DomId } from '@virtlab/abi/brands';
import { domId } from '@virtlab/abi/brands';
import {
  GNTST_bad_domain,
  GNTST_bad_page,
  GNTST_general_error,
  GNTST_okay,
  GNTST_permission_denied,
} from '@virtlab/abi/grant-table';
import { DOMID_SELF, XEN_PAGE_SHIFT, XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import type { GrantTableView } from './contract.ts';
import type { PeerPins } from './peer-pins.ts';
import { TransitHold } from './transit-hold.ts';

const PAGE_SIZE = XEN_PAGE_SIZE;
const PAGE_SHIFT = XEN_PAGE_SHIFT;
const SELF = DOMID_SELF;

/** What a copy finds of the domains that it names. */
export interface CopyPeers {
  readonly domain: DomId;
  /** The own RAM's bytes, or undefined where it is out of reach. */
  ownRam(): Uint8Array | undefined;
  view(domain: DomId): GrantTableView | undefined;
  /** What we hold of a connected domain, or a negative `GNTST_*`. */
  pins(domain: DomId): PeerPins | number;
}

/** One side of a copy, claimed (Xen `struct gnttab_copy_buf`): kept from copy to copy while they name the same page. */
export class CopyBuffer {
  /** RAM of the page, the byte of it at which the page begins, and what of the page may be touched. */
  u8: Uint8Array | undefined;
  base = 0;
  start = 0;
  size = 0;
  readonly #peers: CopyPeers;
  readonly #isDest: boolean;
  readonly #transit = new TransitHold();
  #domain = 0;
  #page = 0;
  #isRef = false;
  #pins: PeerPins | undefined;
  #isInTransit = false;

  constructor(peers: CopyPeers, isDest: boolean) {
    this.#peers = peers;
    this.#isDest = isDest;
  }

  /** Whether the domain may be named so: `gnttab_copy_lock_domain`. */
  checkDomain(domain: DomId, isRef: boolean): number {
    if (domain === SELF) return GNTST_okay;
    if (!isRef) return GNTST_permission_denied;
    return this.#peers.view(domain) === undefined ? GNTST_bad_domain : GNTST_okay;
  }

  /** Claims a page unless it is claimed already: `gnttab_copy_claim_buf`. */
  claim(domain: DomId, isRef: boolean, page: number): number {
    if (this.u8 !== undefined && this.#domain === domain && this.#isRef === isRef && this.#page === page)
      return GNTST_okay;
    this.release();
    const status = isRef ? this.#claimRef(domain, page) : this.#claimOwn(page);
    if (status !== GNTST_okay) return status;
    this.#domain = domain;
    this.#isRef = isRef;
    this.#page = page;
    return GNTST_okay;
  }

  /** Lets go of the page: `gnttab_copy_release_buf`. */
  release(): void {
    if (this.u8 === undefined) return;
    this.u8 = undefined;
    if (this.#isInTransit) this.#transit.release();
    this.#isInTransit = false;
    this.#pins?.unpin(this.#page, this.#isDest, true);
    this.#pins = undefined;
  }

  #claimOwn(frame: number): number {
    const u8 = this.#peers.ownRam();
    if (u8 === undefined || !(frame < u8.length / PAGE_SIZE)) return GNTST_bad_page;
    this.#open(u8, frame, 0, PAGE_SIZE);
    return GNTST_okay;
  }

  /** Xen's `acquire_grant_for_copy`. */
  #claimRef(named: DomId, ref: number): number {
    const domain = named === SELF ? this.#peers.domain : named;
    const pins = this.#peers.pins(domain);
    if (typeof pins === 'number') return pins;
    if (pins.isPassedOn(ref)) return this.#claimPassedOn(pins, ref);
    const status = pins.pinForCopy(ref, this.#isDest);
    if (status !== GNTST_okay) return status;
    this.#pins = pins;
    this.#open(pins.view.ram.u8, pins.frameOf(ref), pins.startOf(ref), pins.sizeOf(ref));
    return GNTST_okay;
  }

  /** A transitive grant: ours at its granter, and the one that it names at the domain that it names. One step, no more. */
  #claimPassedOn(pins: PeerPins, ref: number): number {
    const status = pins.pinPassedOn(ref, this.#isDest);
    if (status !== GNTST_okay) return status;
    const taken = this.#takePassedOn(pins);
    if (taken !== GNTST_okay) {
      pins.unpin(ref, this.#isDest, true);
      return taken;
    }
    this.#pins = pins;
    this.#isInTransit = true;
    const { view, frame, start, size } = this.#transit;
    this.#open(view.ram.u8, frame, start, size);
    return GNTST_okay;
  }

  #takePassedOn(pins: PeerPins): number {
    const { passedDomain, passedRef } = pins;
    if (passedDomain === pins.domain) return GNTST_general_error;
    const view = this.#peers.view(domId(passedDomain));
    if (view === undefined) return GNTST_general_error;
    return this.#transit.take(view, pins.domain, this.#peers.domain, passedRef, this.#isDest);
  }

  #open(u8: Uint8Array, frame: number, start: number, size: number): void {
    this.u8 = u8;
    this.base = frame * (1 << PAGE_SHIFT);
    this.start = start;
    this.size = size;
  }
}
