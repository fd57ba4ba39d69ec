/** The peer's memory as it describes it ("Memory access"): guest and user addresses, set as a whole or region by region. */
import { closeFd } from '@virtlab/linux';
import type { MessageFds } from './connection.ts';
import { type Outcome, type ProtocolFault, bad, hex, protocolFault } from './fault.ts';
import type { RegionDescription } from './payload-memory.ts';
import { type MappedRegion, type RegionMapper, mapMemory } from './region-mapping.ts';
import { type MemoryPiece, TableMemory } from './table-memory.ts';

/** Regions that may be added one by one (GET_MAX_MEM_SLOTS): as many as the kernel's vhost and rust-vmm take. */
export const MEM_SLOTS_MAX = 509;

interface TableEntry {
  readonly description: RegionDescription;
  readonly mapped: MappedRegion;
}

/**
 * Owns the mappings. A change that cannot be made leaves everything as it was. `set` and `remove` need that no ring uses
 * the memory (`memory.mappedCount` 0); `add` may come at any time.
 */
export class MemoryTable implements Disposable {
  readonly memory: TableMemory = new TableMemory();
  readonly #mapRegion: RegionMapper;
  #entries: TableEntry[] = [];

  constructor(mapRegion: RegionMapper = mapMemory) {
    this.#mapRegion = mapRegion;
  }

  get regionCount(): number {
    return this.#entries.length;
  }

  /** The whole table anew, with a descriptor for each region in order. */
  set(regions: readonly RegionDescription[], fds: MessageFds): ProtocolFault | undefined {
    const entries: TableEntry[] = [];
    for (const description of regions) {
      const mapped = this.#mapInto(entries, description, fds);
      if (mapped.ok) {
        entries.push({ description, mapped: mapped.value });
        continue;
      }
      for (const entry of entries) entry.mapped.revoke();
      return mapped.fault;
    }
    const old = this.#entries;
    this.#entries = entries;
    this.memory.replace(entries.flatMap(piecesOf));
    for (const { mapped } of old) mapped.revoke();
    return undefined;
  }

  add(description: RegionDescription, fds: MessageFds): ProtocolFault | undefined {
    if (this.#entries.length >= MEM_SLOTS_MAX)
      return protocolFault('REFUSED', `all ${MEM_SLOTS_MAX} slots are taken`);
    const mapped = this.#mapInto(this.#entries, description, fds);
    if (!mapped.ok) return mapped.fault;
    const entry = { description, mapped: mapped.value };
    this.#entries.push(entry);
    this.memory.add(piecesOf(entry));
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
    this.memory.replace(this.#entries.flatMap(piecesOf));
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
    for (const { mapped } of this.#entries) mapped.revoke();
    this.#entries = [];
  }

  #mapInto(
    others: readonly TableEntry[],
    description: RegionDescription,
    fds: MessageFds,
  ): Outcome<MappedRegion> {
    const overlapped = others.find((other) => overlaps(other.description, description));
    if (overlapped !== undefined) {
      const { guestAddress, size } = description;
      const where = `overlaps the one at guest ${hex(overlapped.description.guestAddress)}`;
      return bad('BAD_VALUE', `region of ${hex(size)} bytes at guest ${hex(guestAddress)} ${where}`);
    }
    const fd = fds.take();
    if (fd === undefined) return bad('BAD_FDS', 'a region without a descriptor');
    try {
      return this.#mapRegion(description, fd);
    } finally {
      closeFd(fd);
    }
  }

  #indexOf(wanted: RegionDescription): number {
    return this.#entries.findIndex(
      ({ description: { guestAddress, userAddress, size } }) =>
        guestAddress === wanted.guestAddress && userAddress === wanted.userAddress && size === wanted.size,
    );
  }
}

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
