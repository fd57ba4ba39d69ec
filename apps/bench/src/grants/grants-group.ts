import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import { linuxFfi, mapShared, memfdCreate, closeFd } from '@virtlab/linux';
import { compare } from '../compare.ts';
import { type BenchPlan, type Contender, type RunResult, timeNs } from '../contender.ts';
import type { ComparisonReport, GroupText } from '../report/report.ts';
import { GrantBench, PAGE_COUNT } from './grant-bench.ts';

export const GRANTS_TEXT: GroupText = {
  title: 'Grants in one thread',
  method: [
    `A frontend lends pages and a backend uses them, ${PAGE_COUNT} after each other, in tables of version 1 and 2. **Grant and end** is the frontend's part, **map and unmap** the backend's, **lend** both, as for a page of a request. **Persistent** is a page that the backend finds mapped. **Copy** is \`GNTTABOP_copy\` of whole pages, ${PAGE_COUNT} in a list.`,
    '**Peers**: beside mapping, what it saves, a plain copy of the page between two views, and a mapping by the kernel, which is what two processes without grants would do (`mmap` of a memfd with a view over it, and taking it back); beside the copies, the plain copy, which checks nothing.',
  ],
  findings: [
    'A map is a compare-and-exchange on the entry and an entry of the books, an unmap two atomics and the same; nothing is mapped by the kernel, since the RAM of a domain is mapped once. That is a fraction of copying the page, and less than a hundredth of a mapping by the kernel, most of which is the view over it.',
    'A persistent grant saves those atomics and costs as much all the same: when it is released the clock is read, for the one that was not used for longest goes first, and that is some 40 % of it. Granted copies cost their checks and one pin for each page beside the copy itself.',
  ],
};

export async function runGrants(plan: BenchPlan): Promise<ComparisonReport[]> {
  const benches = [
    ['v1', new GrantBench(1)],
    ['v2', new GrantBench(2)],
  ] as const;
  const [[, first]] = benches;
  const ours = (what: string, round: (bench: GrantBench) => void): Contender[] =>
    benches.map(([version, bench]) => contender(`virtlab, ${what}, ${version}`, false, () => round(bench)));
  const copy = contender('copy of the page', true, () => first.copyPlainly());
  const lending = [
    ...ours('grant and end', (bench) => bench.grantAndEnd()),
    ...ours('map and unmap', (bench) => bench.mapAndUnmap()),
    ...ours('lend', (bench) => bench.lend()),
    ...ours('persistent', (bench) => bench.usePersistent()),
    copy,
    ...kernelMapping(plan),
  ];
  const copying = [...ours('copy', (bench) => bench.copy()), copy];
  const comparison = { operation: 'page', runShare: 0.5 };
  return [
    await compare({ ...comparison, title: 'Lending a page', contenders: lending }, plan),
    await compare({ ...comparison, title: 'Copying a page', contenders: copying }, plan),
  ];
}

function contender(name: string, isPeer: boolean, round: () => void): Contender {
  return {
    name,
    isPeer,
    run: (count) => {
      const result = inRounds(count, round);
      return isPeer ? result : { ...result, doorbells: { kicks: 0, calls: 0 } };
    },
  };
}

function kernelMapping({ onMissing }: BenchPlan): Contender[] {
  const ffi = linuxFfi();
  if (!ffi.available) {
    onMissing(`a mapping by the kernel: ${ffi.reason}`);
    return [];
  }
  const run = (count: number): RunResult => {
    const fd = memfdCreate('bench-grants', XEN_PAGE_SIZE);
    try {
      const elapsedNs = timeNs(() => {
        for (let page = 0; page < count; page += 1) mapShared(fd, XEN_PAGE_SIZE).revoke();
      });
      return { operationCount: count, elapsedNs };
    } finally {
      closeFd(fd);
    }
  };
  return [{ name: 'mmap', isPeer: true, run }];
}

/** At least `count` pages. */
function inRounds(count: number, round: () => void): RunResult {
  let moved = 0;
  const elapsedNs = timeNs(() => {
    for (; moved < count; moved += PAGE_COUNT) round();
  });
  return { operationCount: moved, elapsedNs };
}
