/**
 * What granting a page costs, in one thread. Run with
 * `node --conditions=@virtlab/source packages/grant-table/src/grant-table.bench.ts`.
 */
import { type GrantHandle, type GrantRef, domId } from '@virtlab/abi/brands';
import { GNTTAB_DEFAULT_MAX_FRAMES, GNTTAB_NR_RESERVED_ENTRIES } from '@virtlab/abi/grant-table';
import { createGrantMapper } from './grant-mapper.ts';
import { createGrantTable } from './grant-table.ts';
import { testView } from './testing.ts';

const PAGES = 1_000_000;
const RUNS = 9;
const granter = domId(1);
const backend = domId(0);
const view = testView(GNTTAB_DEFAULT_MAX_FRAMES);
const tables = new Map([[granter, view]]);
const table = createGrantTable({ domain: granter, view, reservedCount: GNTTAB_NR_RESERVED_ENTRIES });
const mapper = createGrantMapper({
  domain: backend,
  mapCountMax: 65536,
  peers: { table: (domain) => tables.get(domain) },
});

function measure(name: string, body: () => void): void {
  const runs = Array.from({ length: RUNS + 1 }, () => {
    const start = performance.now();
    body();
    return ((performance.now() - start) * 1e6) / PAGES;
  });
  const median = runs.slice(1).toSorted((a, b) => a - b)[(RUNS - 1) / 2]!;
  console.log(`${name}: ${median.toFixed(1)} ns a page`);
}

measure('grant, map for writing, unmap, end', () => {
  for (let page = 0; page < PAGES; page++) {
    const ref = table.grantAccess(backend, 1, false) as GrantRef;
    mapper.unmap(mapper.map(granter, ref, true) as GrantHandle);
    table.endAccess(ref);
  }
});

measure('grant, end', () => {
  for (let page = 0; page < PAGES; page++) table.endAccess(table.grantAccess(backend, 1, false) as GrantRef);
});

measure('grant, end, in ranges of 8', () => {
  for (let page = 0; page < PAGES; page += 8)
    table.endRange(table.grantRange(backend, 1, 8, false) as GrantRef, 8);
});
