/** Memory of another domain of a Xen machine, as regions under XEN_MMAP describe it ("Memory region description"). */
import type { DomId } from '@virtlab/abi/brands';
import { XEN_GRANT_DMA_ADDR_OFF } from '@virtlab/abi/grant-table';
import {
  DMA_FAULT_ADDRESS,
  type DeviceMemory,
  type DmaStatus,
  type MappedArea,
  type MemoryRegion,
  type SegmentList,
  memoryRegion,
} from '@virtlab/guest-memory';
import { type Outcome, bad, good, hex } from './fault.ts';
import type { RegionDescription } from './payload-memory.ts';
import type { MappedRegion } from './region-mapping.ts';
import type { TableMemory } from './table-memory.ts';

const WORD = 2 ** 32;
const ADDRESS_END = 1n << 64n;
const REGION_ALIGN_SIZE = 8n;

/**
 * What the other side of a connection reaches. Regions name whatever domain they like, so this is where it is decided which of
 * them it speaks for; both resolve to undefined for any other, and for what cannot be reached.
 */
export interface XenMemory {
  /**
   * What the domain granted this one, at addresses `bit 63 | ref << 12 | offset in page`. Pages are mapped while they are used, also
   * where the region does not ask for that: what is granted may be fewer pages than the region has.
   */
  grantsOf(domid: DomId): Promise<DeviceMemory | undefined>;
  /** All RAM of the domain, guest-physical address 0 first: for one who is privileged. */
  ramOf(domid: DomId): Promise<MemoryRegion | undefined>;
}

/** What was found of the domains that the regions of a message name. */
export type ReachedDomains = ReadonlyMap<
  DomId,
  { readonly grants?: DeviceMemory | undefined; readonly ram?: MemoryRegion | undefined }
>;

/** Looks up what regions need, before the table changes. */
export async function reachDomains(
  xen: XenMemory | undefined,
  regions: readonly RegionDescription[],
): Promise<ReachedDomains> {
  const reached = new Map<DomId, { grants?: DeviceMemory | undefined; ram?: MemoryRegion | undefined }>();
  if (xen === undefined) return reached;
  for (const { xen: mapping } of regions) {
    if (mapping === undefined) continue;
    const { domid, kind } = mapping;
    const found = reached.get(domid) ?? {};
    reached.set(domid, found);
    if (kind === 'grant') found.grants ??= await xen.grantsOf(domid);
    else found.ram ??= await xen.ramOf(domid);
  }
  return reached;
}

/** A region of a domain's RAM. It is never unmapped: the machine takes the memory away when the domain ends. */
export function mapForeign(
  { guestAddress, size, xen }: RegionDescription,
  reached: ReachedDomains,
): Outcome<MappedRegion> {
  const { domid } = xen!;
  const ram = reached.get(domid)?.ram;
  const what = `region of ${hex(size)} bytes at guest ${hex(guestAddress)} of domain ${domid}`;
  if (ram === undefined) return bad('REFUSED', `${what}: out of reach`);
  if (guestAddress % REGION_ALIGN_SIZE !== 0n || size % REGION_ALIGN_SIZE !== 0n) {
    return bad('BAD_VALUE', `${what}: not whole words`);
  }
  if (guestAddress + size > BigInt(ram.size)) {
    return bad('BAD_VALUE', `${what}: its RAM ends at ${hex(BigInt(ram.size))}`);
  }
  const { buffer, byteOffset } = ram.u8;
  const region = memoryRegion(buffer, byteOffset + Number(guestAddress), Number(size));
  return good({ pieces: [region], revoke: () => {} });
}

/** Grants of one domain, as far as a region shows them. */
export interface GrantWindow {
  readonly domid: DomId;
  readonly memory: DeviceMemory;
  readonly guestAddress: bigint;
  readonly size: bigint;
}

export function grantWindow(
  { guestAddress, size, xen }: RegionDescription,
  reached: ReachedDomains,
): Outcome<GrantWindow> {
  const { domid } = xen!;
  const memory = reached.get(domid)?.grants;
  const what = `grants of domain ${domid}, ${hex(size)} bytes at guest ${hex(guestAddress)}`;
  if (memory === undefined) return bad('REFUSED', `${what}: out of reach`);
  if (guestAddress < XEN_GRANT_DMA_ADDR_OFF) return bad('BAD_VALUE', `${what}: bit 63 is not set`);
  return good({ domid, memory, guestAddress, size });
}

/**
 * What rings and devices reach through a table that may hold grants: either regions in advance, or windows on one domain's
 * grants. The windows change under no ring.
 */
export class XenTableMemory implements DeviceMemory {
  readonly #table: TableMemory;
  #grants: DeviceMemory | undefined;
  #windows: readonly GrantWindow[] = [];
  #baseLow = new Uint32Array(0);
  #baseHigh = new Uint32Array(0);
  #sizes = new Float64Array(0);

  constructor(table: TableMemory) {
    this.#table = table;
  }

  get regions(): readonly MemoryRegion[] {
    return (this.#grants ?? this.#table).regions;
  }

  /** No windows: the table's own regions count. */
  show(windows: readonly GrantWindow[]): void {
    this.#windows = windows;
    this.#grants = windows[0]?.memory;
    this.#baseLow = Uint32Array.from(windows, ({ guestAddress }) => Number(BigInt.asUintN(32, guestAddress)));
    this.#baseHigh = Uint32Array.from(windows, ({ guestAddress }) => Number(guestAddress >> 32n));
    this.#sizes = Float64Array.from(windows, ({ size }) => Number(size));
  }

  map(low: number, high: number, size: number, writable: boolean, into: SegmentList): DmaStatus {
    const grants = this.#grants;
    if (grants === undefined) return this.#table.map(low, high, size, writable, into);
    if (!this.#isShown(low, high, size)) return DMA_FAULT_ADDRESS;
    return grants.map(low, high, size, writable, into);
  }

  unmap(list: SegmentList, from: number, to: number): void {
    (this.#grants ?? this.#table).unmap(list, from, to);
  }

  mapArea(address: bigint, size: number, alignment: number, writable: boolean): MappedArea | DmaStatus {
    const grants = this.#grants;
    if (grants === undefined) return this.#table.mapArea(address, size, alignment, writable);
    const isShown =
      address >= 0n &&
      address < ADDRESS_END &&
      this.#isShown(Number(BigInt.asUintN(32, address)), Number(address >> 32n), size);
    return isShown ? grants.mapArea(address, size, alignment, writable) : DMA_FAULT_ADDRESS;
  }

  unmapArea(area: MappedArea): void {
    (this.#grants ?? this.#table).unmapArea(area);
  }

  #isShown(low: number, high: number, size: number): boolean {
    for (let at = 0; at < this.#windows.length; at += 1) {
      const offset = (high - this.#baseHigh[at]!) * WORD + (low - this.#baseLow[at]!);
      if (offset >= 0 && offset + size <= this.#sizes[at]!) return true;
    }
    return false;
  }
}
