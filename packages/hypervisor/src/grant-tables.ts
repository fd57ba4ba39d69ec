import type { DomId } from '@virtlab/abi/brands';
import { GNTST_bad_domain, GNTST_okay, GNTST_permission_denied } from '@virtlab/abi/grant-table';
import { DOMID_SELF } from '@virtlab/abi/xen';
import {
  type GrantLimits,
  GrantTableControl,
  type GrantTableView,
  type GrantVersion,
  defaultGrantLimits,
  isGrantedTo,
  isPassedOn,
  releasePinsOf,
} from '@virtlab/grant-table';
import type { MemoryRegion } from '@virtlab/guest-memory';
import { type DomainMemory, PAGE_SIZE, XEN_PAGES } from './domain-memory.ts';
import { HypercallError } from './errors.ts';

/** The grant table of a domain whose RAM is at hand. */
export function grantTableOf(memory: DomainMemory & { readonly ram: MemoryRegion }): GrantTableView {
  return {
    table: memory.xen,
    tableOffset: XEN_PAGES.grantTable,
    frameCount: XEN_PAGES.grantFrameCount,
    ram: memory.ram,
    control: XEN_PAGES.grantControl,
  };
}

/** Answer of `GNTTABOP_setup_table` and `get_status_frames`: page numbers in the domain's Xen-owned object. */
export interface GrantFrames {
  readonly status: number;
  readonly frames: readonly number[];
}

export interface GrantTableSize {
  readonly status: number;
  readonly frameCount: number;
  readonly frameCountMax: number;
}

interface GrantRecord {
  readonly view: GrantTableView;
  readonly control: GrantTableControl;
}

/** The grant tables of a machine: what of `GNTTABOP_*` changes or tells hypervisor state. Mapping and copying do not. */
export class GrantTables {
  readonly #isPrivileged: (domain: DomId) => boolean;
  readonly #records = new Map<DomId, GrantRecord>();

  constructor(isPrivileged: (domain: DomId) => boolean) {
    this.#isPrivileged = isPrivileged;
  }

  /** Throws `RangeError` for limits that no domain can have. */
  addDomain(
    domain: DomId,
    memory: DomainMemory & { readonly ram: MemoryRegion },
    limits: Partial<GrantLimits> | undefined,
  ): void {
    const view = grantTableOf(memory);
    this.#records.set(domain, { view, control: new GrantTableControl(view, grantLimitsOf(limits)) });
  }

  /** The domain is gone: what it held of others' grants is released. */
  removeDomain(domain: DomId): void {
    this.#records.delete(domain);
    for (const { view } of this.#records.values()) releasePinsOf(view, domain);
  }

  /** Whether a domain was granted something of another's RAM, or was passed on what that one granted to a third. */
  mayReach(caller: DomId, domain: DomId): boolean {
    const record = this.#records.get(domain);
    if (record === undefined) return false;
    if (isGrantedTo(record.view, caller)) return true;
    for (const [between, { view }] of this.#records) {
      if (between !== domain && isPassedOn(view, domain, caller) && isGrantedTo(record.view, between))
        return true;
    }
    return false;
  }

  setupTable(caller: DomId, domain: DomId, frameCount: number): GrantFrames {
    const found = this.#find(caller, domain);
    if (typeof found === 'number') return { status: found, frames: [] };
    const status = found.control.setupTable(frameCount);
    if (status !== GNTST_okay) return { status, frames: [] };
    const { view, control } = found;
    const offset = control.version === 2 ? view.control!.entriesV2 : view.tableOffset;
    return { status, frames: pagesFrom(offset, frameCount) };
  }

  querySize(caller: DomId, domain: DomId): GrantTableSize {
    const found = this.#find(caller, domain);
    if (typeof found === 'number') return { status: found, frameCount: 0, frameCountMax: 0 };
    const { frameCount, frameCountMax } = found.control;
    return { status: GNTST_okay, frameCount, frameCountMax };
  }

  getStatusFrames(caller: DomId, domain: DomId, frameCount: number): GrantFrames {
    const found = this.#find(caller, domain);
    if (typeof found === 'number') return { status: found, frames: [] };
    const status = found.control.getStatusFrames(frameCount);
    if (status !== GNTST_okay) return { status, frames: [] };
    return { status, frames: pagesFrom(found.view.control!.status, frameCount) };
  }

  /** Of the caller's own table. Throws `HypercallError` with the codes of `GrantTableControl.setVersion`. */
  setVersion(caller: DomId, version: number): GrantVersion {
    const record = this.#records.get(caller)!;
    const code = record.control.setVersion(version);
    if (code === undefined) return record.control.version;
    throw new HypercallError(code, 'gnttab_set_version', `Version ${version} of domain ${caller}'s table`);
  }

  /** Throws `HypercallError` ESRCH or EPERM: this operation has no status. */
  getVersion(caller: DomId, domain: DomId): GrantVersion {
    const found = this.#find(caller, domain);
    if (typeof found !== 'number') return found.control.version;
    const code = found === GNTST_bad_domain ? 'ESRCH' : 'EPERM';
    throw new HypercallError(code, 'gnttab_get_version', `Grant table of domain ${domain}`);
  }

  /** Xen's policy without a security module (XSM_TARGET): oneself, or anybody for who is privileged. */
  #find(caller: DomId, named: DomId): GrantRecord | number {
    const domain = named === DOMID_SELF ? caller : named;
    const record = this.#records.get(domain);
    if (record === undefined) return GNTST_bad_domain;
    return domain === caller || this.#isPrivileged(caller) ? record : GNTST_permission_denied;
  }
}

/** A smaller maximum also makes a smaller table at start. */
export function grantLimitsOf(limits: Partial<GrantLimits> = {}): GrantLimits {
  return { ...defaultGrantLimits(limits.frameCountMax ?? XEN_PAGES.grantFrameCount), ...limits };
}

function pagesFrom(offset: number, count: number): readonly number[] {
  return Array.from({ length: count }, (_, index) => offset / PAGE_SIZE + index);
}
