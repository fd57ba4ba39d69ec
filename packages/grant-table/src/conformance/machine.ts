import type { DomId, GrantRef } from '@virtlab/abi/brands';
import { GRANT_ENTRY_V1, GRANT_ENTRY_V2_FULL_PAGE, GRANT_STATUS_SIZE } from '@virtlab/abi/grant-table';
import { expect } from 'vitest';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type {
  CopyingGrantMapper,
  GrantMapper,
  GrantTableView,
  GrantVersion,
  VersionedGrantTable,
} from '../contract.ts';
import { grantVersionOf } from '../control-words.ts';

/** Three domains that share nothing with any other instance: one grants, two map. */
export interface GrantMachine {
  /** `view` is the table as the granter itself has it: the suite also plays a hostile granter with it. */
  readonly granter: {
    readonly domain: DomId;
    readonly table: VersionedGrantTable;
    readonly view: GrantTableView;
  };
  /** `ram` is its own, as the suite sees it. */
  readonly mapper: {
    readonly domain: DomId;
    readonly mapper: CopyingGrantMapper;
    readonly ram: MemoryRegion;
  };
  readonly stranger: { readonly domain: DomId; readonly mapper: CopyingGrantMapper };
  /** References below are reserved. */
  readonly reservedCount: number;
  /** Mappings that `mapper` may hold. */
  readonly mapCountMax: number;
  /** The granter dies: the mappers no longer find its table. */
  readonly killGranter: () => Promise<void>;
  /** `mapper` dies without unmapping, and the hypervisor cleans up. */
  readonly killMapper: () => Promise<void>;
  dispose(): Promise<void>;
}

export interface GrantConformance {
  /** Names the implementation in the test names. */
  readonly name: string;
  create(): GrantMachine | Promise<GrantMachine>;
}

export interface RawEntry {
  readonly flags?: number;
  readonly domain?: number;
  readonly frame?: number;
}

/** What a test body gets: the machine, and the raw words of the granter's entries. */
export interface GrantTest extends GrantMachine {
  readonly table: VersionedGrantTable;
  readonly version: GrantVersion;
  readonly map: GrantMapper['map'];
  readonly unmap: (handle: number) => number;
  /** Flags of the entry, with the in-use bits wherever the version has them. */
  flags(ref: GrantRef): number;
  setEntry(
    ref: GrantRef,
    entry: { readonly flags?: number; readonly domain?: number; readonly frame?: number },
  ): void;
  /** Marks a domain as dead: what it held is not looked at when the test ends. */
  readonly dead: Set<DomId>;
}

export type OnMachine = (body: (test: GrantTest) => void | Promise<void>) => () => Promise<void>;

/** Runs one test body on a fresh machine; nothing may be granted or mapped at the end, nor any entry be in use. */
export function onMachine(suite: GrantConformance): OnMachine {
  return (body) => async () => {
    const machine = await suite.create();
    const { granter, mapper, stranger } = machine;
    const freeAtStart = granter.table.freeCount;
    const dead = new Set<DomId>();
    try {
      await body({ ...machine, ...accessors(machine), dead });
      for (const each of [mapper, stranger]) {
        if (!dead.has(each.domain)) expect(each.mapper.live(), `mapped by domain ${each.domain}`).toEqual([]);
      }
      if (!dead.has(granter.domain)) {
        expect(granter.table.live(), 'granted').toEqual([]);
        expect(granter.table.freeCount, 'free references').toBe(freeAtStart);
      }
    } finally {
      await machine.dispose();
    }
  };
}

function accessors({ granter, mapper }: GrantMachine) {
  const { table: region, tableOffset, control } = granter.view;
  const version = grantVersionOf(granter.view);
  const entry = version === 2 ? GRANT_ENTRY_V2_FULL_PAGE : GRANT_ENTRY_V1;
  const first = version === 2 ? control!.entriesV2 : tableOffset;
  const at = (ref: GrantRef): number => first + ref * entry.size;
  const { flags, domid, frame } = entry.offset;
  const status = (ref: GrantRef): number =>
    version === 2 ? region.u16[control!.status / GRANT_STATUS_SIZE + ref]! : 0;
  return {
    table: granter.table,
    version,
    map: mapper.mapper.map.bind(mapper.mapper),
    unmap: (handle: number) => mapper.mapper.unmap(handle as Parameters<GrantMapper['unmap']>[0]),
    flags: (ref: GrantRef) => region.u16[(at(ref) + flags) / 2]! | status(ref),
    setEntry: (ref: GrantRef, raw: RawEntry) => {
      if (raw.frame !== undefined) region.u32[(at(ref) + frame) / 4] = raw.frame;
      if (raw.domain !== undefined) region.u16[(at(ref) + domid) / 2] = raw.domain;
      if (raw.flags !== undefined) region.u16[(at(ref) + flags) / 2] = raw.flags;
    },
  };
}

/** A reference that was granted; fails the test where the table was full. */
export function granted(ref: GrantRef | -1): GrantRef {
  expect(ref, 'granted reference').not.toBe(-1);
  return ref as GrantRef;
}
