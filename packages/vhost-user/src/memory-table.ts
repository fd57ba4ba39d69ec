/** The peer's memory as it describes it ("Memory access"): guest and user addresses, set as a whole or region by region. */
import type { DeviceMemory } from '@virtlab/guest-memory';
import { closeFd } from '@virtlab/linux';
import type { MessageFds } from './connection.ts';
import { type Outcome, type ProtocolFault, bad, good, hex, protocolFault } from './fault.ts';
import type { RegionDescription } from './payload-memory.ts';
import { type MappedRegion, disposeAll, mapMemory } from './region-mapping.ts';
import { type MemoryPiece, TableMemory } from './table-memory.ts';
import {
  type GrantWindow,
  type ReachedDomains,
  XenTableMemory,
  grantWindow,
  mapForeign,
} from './xen-memory.ts';

/** Regions that may be added one by one (GET_MAX_MEM_SLOTS): as many as the kernel's vhost and rust-vmm take. */
export const MEM_SLOTS_MAX = 509;

/**
 * Bytes of memory that a table may have together. What can be described costs its owner nothing, but us a few milliseconds for
 * each view of 4 GiB, in which nothing else runs.
 */
export const MEMORY_SIZE_MAX_DEFAULT: number = 2 ** 40;

export interface MemoryTableOptions {
  /** Regions may be another domain's. Default false. */
  readonly hasXenMmap?: boolean | undefined;
  /** Memory is taken that its owner can take back. Default false. */
  readonly allowShrink?: boolean | undefined;
  /** Bytes that are mapped together at most. Default 1 TiB. */
  readonly memorySizeMax?: number | undefined;
}

interface TableEntry extends Disposable {
  readonly description: RegionDescription;
  /** Without pieces where it shows grants. */
  readonly mapped: MappedRegion;
  readonly window?: GrantWindow;
}

const NOBODY: ReachedDomains = new Map();

/**
 * Owns the mappings. A change that cannot be made leaves everything as it was. `set` and `remove` need that no ring uses
 * the memory (`memory.mappedCount` 0); `add` may come at any time.
 */
export class MemoryTable implements Disposable {
  readonly memory: TableMemory = new TableMemory();
  readonly #xenMemory: XenTableMemory | undefined;
  readonly #allowShrink: boolean;
  readonly #memorySizeMax: bigint;
  #entries: TableEntry[] = [];

  constructor(options: MemoryTableOptions = {}) {
    this.#allowShrink = options.allowShrink ?? false;
    this.#memorySizeMax = BigInt(options.memorySizeMax ?? MEMORY_SIZE_MAX_DEFAULT);
    this.#xenMemory = options.hasXenMmap === true ? new XenTableMemory(this.memory) : undefined;
  }

  /** What rings and devices reach. */
  get deviceMemory(): DeviceMemory {
    return this.#xenMemory ?? this.memory;
  }

  get regionCount(): number {
    return this.#entries.length;
  }

  /** Whether what the device writes goes unseen by the log. */
  get hasGrants(): boolean {
    return this.#entries.some(({ window }) => window !== undefined);
  }

  /** The whole table anew, with a descriptor for each region in order. */
  set(
    regions: readonly RegionDescription[],
    fds: MessageFds,
    reached: ReachedDomains = NOBODY,
  ): ProtocolFault | undefined {
    const tooMuch = this.#tooMuch(regions);
    if (tooMuch !== undefined) return tooMuch;
    const entries: TableEntry[] = [];
    for (const description of regions) {
      const entry = this.#mapInto(entries, description, fds, reached);
      if (entry.ok) {
        entries.push(entry.value);
        continue;
      }
      disposeAll(entries);
      return entry.fault;
    }
    const old = this.#entries;
    this.#entries = entries;
    this.#replaced();
    disposeAll(old);
    return undefined;
  }

  add(
    description: RegionDescription,
    fds: MessageFds,
    reached: ReachedDomains = NOBODY,
  ): ProtocolFault | undefined {
    if (this.#entries.length >= MEM_SLOTS_MAX)
      return protocolFault('REFUSED', `all ${MEM_SLOTS_MAX} slots are taken`);
    const tooMuch = this.#tooMuch([...this.#entries.map((other) => other.description), description]);
    if (tooMuch !== undefined) return tooMuch;
    const entry = this.#mapInto(this.#entries, description, fds, reached);
    if (!entry.ok) return entry.fault;
    this.#entries.push(entry.value);
    this.memory.add(piecesOf(entry.value));
    if (entry.value.window !== undefined) this.#showGrants();
    return undefined;
  }

  /** Whether there is a region with these addresses and this size; the offset says nothing. */
  has(description: RegionDescription): boolean {
    return this.#indexOf(description) >= 0;
  }

  remove(description: RegionDescription): ProtocolFault | undefined {
    const index = this.#indexOf(description);
    const entry = this.#entries[index];
    if (entry === undefined) {
      const { guestAddress, size } = description;
      return protocolFault('BAD_VALUE', `no region of ${hex(size)} bytes at guest ${hex(guestAddress)}`);
    }
    this.#entries.splice(index, 1);
    this.#replaced();
    entry.mapped.revoke();
    return undefined;
  }

  /** Guest address of `size` bytes at a user address, if one region holds them all. */
  guestAddressOf(userAddress: bigint, size: bigint): bigint | undefined {
    const entry = this.#entries.find(({ description: { userAddress: start, size: all } }) => {
      return userAddress >= start && userAddress + size <= start + all;
    });
    if (entry === undefined) return undefined;
    return userAddress - entry.description.userAddress + entry.description.guestAddress;
  }

  /** Ends all mappings. Whoever still has views reads nothing of the peer's and writes nowhere. */
  [Symbol.dispose](): void {
    const entries = this.#entries;
    this.#entries = [];
    disposeAll(entries);
  }

  /** Before anything is mapped. Memory of domains is mapped already, or while it is used. */
  #tooMuch(regions: readonly RegionDescription[]): ProtocolFault | undefined {
    const mapped = regions.filter(({ xen }) => xen === undefined);
    const size = mapped.reduce((sum, region) => sum + region.size, 0n);
    if (size <= this.#memorySizeMax) return undefined;
    const limit = `more than the ${hex(this.#memorySizeMax)} that are mapped at most`;
    return protocolFault('REFUSED', `${hex(size)} bytes of memory are ${limit}`);
  }

  #mapInto(
    others: readonly TableEntry[],
    description: RegionDescription,
    fds: MessageFds,
    reached: ReachedDomains,
  ): Outcome<TableEntry> {
    const overlapped = others.find((other) => overlaps(other.description, description));
    if (overlapped !== undefined) {
      const { guestAddress, size } = description;
      const where = `overlaps the one at guest ${hex(overlapped.description.guestAddress)}`;
      return bad('BAD_VALUE', `region of ${hex(size)} bytes at guest ${hex(guestAddress)} ${where}`);
    }
    const fd = fds.take();
    if (fd === undefined) return bad('BAD_FDS', 'a region without a descriptor');
    try {
      const { xen } = description;
      if (xen?.kind === 'grant') return showGrants(others, description, reached);
      const mapped =
        xen === undefined ? mapMemory(description, fd, this.#allowShrink) : mapForeign(description, reached);
      if (!mapped.ok) return mapped;
      const isBesideGrants = others.some(({ window }) => window !== undefined);
      return isBesideGrants ? bad('REFUSED', BESIDE_GRANTS) : good(tableEntry(description, mapped.value));
    } finally {
      closeFd(fd);
    }
  }

  #replaced(): void {
    this.memory.replace(this.#entries.flatMap(piecesOf));
    this.#showGrants();
  }

  #showGrants(): void {
    this.#xenMemory?.show(this.#entries.flatMap(({ window }) => window ?? []));
  }

  #indexOf(wanted: RegionDescription): number {
    return this.#entries.findIndex(
      ({ description: { guestAddress, userAddress, size } }) =>
        guestAddress === wanted.guestAddress && userAddress === wanted.userAddress && size === wanted.size,
    );
  }
}

const BESIDE_GRANTS = 'one table holds grants of one domain, or regions that are mapped as a whole';

function showGrants(
  others: readonly TableEntry[],
  description: RegionDescription,
  reached: ReachedDomains,
): Outcome<TableEntry> {
  const window = grantWindow(description, reached);
  if (!window.ok) return window;
  const isAlone = others.every((other) => other.window?.domid === window.value.domid);
  if (!isAlone) return bad('REFUSED', BESIDE_GRANTS);
  // A second window shows the same mappings.
  const memory = others[0]?.window?.memory ?? window.value.memory;
  return good({ ...tableEntry(description, NOTHING_MAPPED), window: { ...window.value, memory } });
}

function tableEntry(description: RegionDescription, mapped: MappedRegion): TableEntry {
  return { description, mapped, [Symbol.dispose]: () => mapped.revoke() };
}

const NOTHING_MAPPED: MappedRegion = { pieces: [], revoke: () => {} };

function piecesOf({ description, mapped }: TableEntry): MemoryPiece[] {
  let guestAddress = description.guestAddress;
  return mapped.pieces.map((region) => {
    const piece = { guestAddress, region };
    guestAddress += BigInt(region.size);
    return piece;
  });
}

function overlaps(a: RegionDescription, b: RegionDescription): boolean {
  const meet = (x: bigint, y: bigint): boolean => x < y + b.size && y < x + a.size;
  return meet(a.guestAddress, b.guestAddress) || meet(a.userAddress, b.userAddress);
}
