/**
 * What grants cost in one thread: by version, copied or mapped, kept mapped. Run with
 * `node --conditions=@virtlab/source packages/grant-table/src/grant-table.bench.ts`.
 */
import type { GrantHandle, GrantRef } from '@virtlab/abi/brands';
import { GNTTAB_DEFAULT_MAX_FRAMES } from '@virtlab/abi/grant-table';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import type { GrantTableView } from './contract.ts';
import { GrantCopyList } from './grant-copy-list.ts';
import { PagePool } from './page-pool.ts';
import { PersistentGrants } from './persistent-grants.ts';
import { type TestMachine, createTestMachine, testView, versionedView } from './testing.ts';

const OPERATIONS = 200_000;
const RUNS = 9;
const BATCH = 64;

interface Contender {
  readonly name: string;
  readonly run: () => void;
}

/** Runs the contenders by turns, so that what else the machine does hits all of them; prints medians of CPU time, and spread. */
function compare(title: string, contenders: readonly Contender[]): void {
  const figures = contenders.map((): number[] => []);
  for (let round = 0; round <= RUNS; round++) {
    for (const [index, { run }] of contenders.entries()) {
      const start = process.cpuUsage();
      run();
      const { user, system } = process.cpuUsage(start);
      if (round > 0) figures[index]!.push(((user + system) * 1e3) / OPERATIONS);
    }
  }
  console.log(title);
  for (const [index, { name }] of contenders.entries()) {
    const sorted = figures[index]!.toSorted((a, b) => a - b);
    const median = sorted[(RUNS - 1) / 2]!;
    const spread = `${sorted[0]!.toFixed(0)}-${sorted.at(-1)!.toFixed(0)}`;
    console.log(`  ${name.padEnd(48)} ${median.toFixed(1).padStart(8)} ns  (${spread})`);
  }
}

function machineOf(view: GrantTableView): TestMachine {
  return createTestMachine(GNTTAB_DEFAULT_MAX_FRAMES, [view]);
}

const tables: readonly (readonly [string, TestMachine])[] = [
  ['version 1 for good', machineOf(testView(GNTTAB_DEFAULT_MAX_FRAMES))],
  ['version 1', machineOf(versionedView(1, GNTTAB_DEFAULT_MAX_FRAMES))],
  ['version 2', machineOf(versionedView(2, GNTTAB_DEFAULT_MAX_FRAMES))],
];

compare(
  'grant, map for writing, unmap, end: a page',
  tables.map(([name, { granter, mappers }]) => ({
    name,
    run: () => {
      const { mapper, domain } = mappers[0]!;
      for (let count = 0; count < OPERATIONS; count++) {
        const ref = granter.table.grantAccess(domain, 1, false) as GrantRef;
        mapper.unmap(mapper.map(granter.domain, ref, true) as GrantHandle);
        granter.table.endAccess(ref);
      }
    },
  })),
);

compare(
  'grant, end: a page',
  tables.flatMap(([name, { granter, mappers }]) => [
    {
      name,
      run: () => {
        const { domain } = mappers[0]!;
        for (let count = 0; count < OPERATIONS; count++)
          granter.table.endAccess(granter.table.grantAccess(domain, 1, false) as GrantRef);
      },
    },
    {
      name: `${name}, in ranges of 8`,
      run: () => {
        const { domain } = mappers[0]!;
        for (let count = 0; count < OPERATIONS; count += 8)
          granter.table.endRange(granter.table.grantRange(domain, 1, 8, false) as GrantRef, 8);
      },
    },
  ]),
);

/** A backend takes `size` bytes of a page that changes from request to request. */
function transfers(version: string, { granter, mappers }: TestMachine, size: number): readonly Contender[] {
  const { mapper, domain, ram } = mappers[0]!;
  const refs = Array.from(
    { length: BATCH },
    (_, index) => granter.table.grantAccess(domain, index % 32, false) as GrantRef,
  );
  const list = new GrantCopyList(BATCH);
  const kept = new PersistentGrants({ mapper, domain: granter.domain, now: () => 0 });
  const free = Array.from({ length: 32 }, (_, page) => page * XEN_PAGE_SIZE);
  const source = { allocate: () => free.pop() ?? -1, free: (offset: number) => void free.push(offset) };
  const pool = new PagePool({ source, pageCountMax: 32 });
  const theirs = granter.view.ram.u8;
  const move = (frame: number, to: number): void => {
    const from = frame * XEN_PAGE_SIZE;
    if (size < 64) for (let byte = 0; byte < size; byte++) ram.u8[to + byte] = theirs[from + byte]!;
    else ram.u8.set(theirs.subarray(from, from + size), to);
  };
  return [
    {
      name: `${version}: GNTTABOP_copy, batches of ${BATCH}`,
      run: () => {
        const page = pool.take();
        for (let count = 0; count < OPERATIONS; count += BATCH) {
          list.clear();
          for (const ref of refs) list.pushIn(granter.domain, ref, 0, page / XEN_PAGE_SIZE, 0, size);
          mapper.copy(list);
        }
        pool.put(page);
      },
    },
    {
      name: `${version}: map, move, unmap`,
      run: () => {
        const page = pool.take();
        for (let count = 0; count < OPERATIONS; count++) {
          const handle = mapper.map(granter.domain, refs[count % BATCH]!, false) as GrantHandle;
          move(mapper.frame, page);
          mapper.unmap(handle);
        }
        pool.put(page);
      },
    },
    {
      name: `${version}: kept mapped, move`,
      run: () => {
        const page = pool.take();
        for (let count = 0; count < OPERATIONS; count++) {
          const slot = kept.acquire(refs[count % BATCH]!, false);
          move(kept.frameOf(slot), page);
          kept.release(slot);
        }
        pool.put(page);
        kept.purge();
      },
    },
    {
      name: `${version}: no grant, move`,
      run: () => {
        for (let count = 0; count < OPERATIONS; count++) move(count % 32, 0);
      },
    },
  ];
}

for (const size of [64, 1500, 4096]) {
  compare(
    `${size} bytes from the granter`,
    tables.slice(1).flatMap(([name, machine]) => transfers(name, machine, size)),
  );
}
