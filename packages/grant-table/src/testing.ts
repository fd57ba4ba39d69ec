import { type DomId, domId } from '@virtlab/abi/brands';
import { GNTTAB_NR_RESERVED_ENTRIES } from '@virtlab/abi/grant-table';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import { type MemoryRegion, memoryRegion } from '@virtlab/guest-memory';
import type { CopyingGrantMapper, GrantTableView, GrantVersion, VersionedGrantTable } from './contract.ts';
import { placeGrantControl } from './control-words.ts';
import { createGrantMapper } from './grant-mapper.ts';
import { createGrantTable } from './grant-table.ts';
import { type GrantLimits, GrantTableControl, defaultGrantLimits } from './table-control.ts';

export interface TestGranter {
  readonly domain: DomId;
  readonly table: VersionedGrantTable;
  readonly view: GrantTableView;
}

export interface TestMapper {
  readonly domain: DomId;
  readonly mapper: CopyingGrantMapper;
  readonly ram: MemoryRegion;
}

/** Granters and two mappers in one thread, for this package's tests. */
export interface TestMachine {
  /** The first of `granters`. */
  readonly granter: TestGranter;
  readonly granters: readonly TestGranter[];
  readonly mappers: readonly TestMapper[];
  /** What the mappers find under a domain id. */
  readonly tables: Map<DomId, GrantTableView>;
}

export const TEST_FRAME_COUNT = 64;
export const TEST_MAP_COUNT_MAX = 1000;

/** A zero table of `tablePages` pages, not at the start of its region, and RAM. */
export function testView(tablePages: number): GrantTableView {
  return {
    table: memoryRegion(new SharedArrayBuffer((tablePages + 2) * XEN_PAGE_SIZE)),
    tableOffset: XEN_PAGE_SIZE,
    frameCount: tablePages,
    ram: testRam(),
  };
}

export function testRam(): MemoryRegion {
  return memoryRegion(new SharedArrayBuffer(TEST_FRAME_COUNT * XEN_PAGE_SIZE));
}

export interface ControlledTable {
  readonly view: GrantTableView;
  readonly control: GrantTableControl;
}

/** A table with control words and all that belongs to them, of version 1 and as large as it may be. */
export function controlledTable(tablePages: number, limits: Partial<GrantLimits> = {}): ControlledTable {
  const { places, size } = placeGrantControl((tablePages + 1) * XEN_PAGE_SIZE, tablePages);
  const view: GrantTableView = {
    table: memoryRegion(new SharedArrayBuffer(places.words + size)),
    tableOffset: XEN_PAGE_SIZE,
    frameCount: tablePages,
    ram: testRam(),
    control: places,
  };
  return { view, control: new GrantTableControl(view, { ...defaultGrantLimits(tablePages), ...limits }) };
}

/** A table of the version, with control words. */
export function versionedView(version: GrantVersion, tablePages: number): GrantTableView {
  const { view, control } = controlledTable(tablePages);
  if (control.setVersion(version) !== undefined) throw new TypeError(`No version ${version}`);
  return view;
}

export function testGranter(domain: DomId, view: GrantTableView): TestGranter {
  const table = createGrantTable({ domain, view, reservedCount: GNTTAB_NR_RESERVED_ENTRIES });
  return { domain, view, table };
}

/** Domains 3, 4, ... grant, domains 0 and 0x7fef map. */
export function createTestMachine(
  tablePages = 2,
  views: readonly GrantTableView[] = [testView(tablePages)],
): TestMachine {
  const granters = views.map((view, index) => testGranter(domId(3 + index), view));
  const tables = new Map(granters.map(({ domain, view }) => [domain, view]));
  const mappers = [domId(0), domId(0x7fef)].map((domain) => {
    const ram = testRam();
    const peers = { table: (peer: DomId) => tables.get(peer) };
    return {
      domain,
      ram,
      mapper: createGrantMapper({ domain, peers, ram, mapCountMax: TEST_MAP_COUNT_MAX }),
    };
  });
  return { granter: granters[0]!, granters, mappers, tables };
}
