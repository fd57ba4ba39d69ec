import { type DomId, domId } from '@virtlab/abi/brands';
import { GNTTAB_NR_RESERVED_ENTRIES } from '@virtlab/abi/grant-table';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import { memoryRegion } from '@virtlab/guest-memory';
import type { GrantMapper, GrantTable, GrantTableView } from './contract.ts';
import { createGrantMapper } from './grant-mapper.ts';
import { createGrantTable } from './grant-table.ts';

/** One granter and two mappers in one thread, for this package's tests. */
export interface TestMachine {
  readonly granter: { readonly domain: DomId; readonly table: GrantTable; readonly view: GrantTableView };
  readonly mappers: readonly { readonly domain: DomId; readonly mapper: GrantMapper }[];
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
    ram: memoryRegion(new SharedArrayBuffer(TEST_FRAME_COUNT * XEN_PAGE_SIZE)),
  };
}

export function createTestMachine(tablePages = 2): TestMachine {
  const view = testView(tablePages);
  const domain = domId(3);
  const tables = new Map([[domain, view]]);
  const table = createGrantTable({ domain, view, reservedCount: GNTTAB_NR_RESERVED_ENTRIES });
  const mappers = [domId(0), domId(0x7fef)].map((mapperDomain) => ({
    domain: mapperDomain,
    mapper: createGrantMapper({
      domain: mapperDomain,
      peers: { table: (peer) => tables.get(peer) },
      mapCountMax: TEST_MAP_COUNT_MAX,
    }),
  }));
  return { granter: { domain, table, view }, mappers, tables };
}
