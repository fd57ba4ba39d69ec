import type { GrantHandle, GrantRef } from '@virtlab/abi/brands';
import { GNTCOPY_source_gref } from '@virtlab/abi/grant-table';
import { DOMID_SELF } from '@virtlab/abi/xen';
import { describe, expect, it } from 'vitest';
import { describeGrants } from './conformance.ts';
import { GrantCopyList } from './grant-copy-list.ts';
import { formatGrantReport } from './grant-report.ts';
import { GrantTracer } from './grant-tracer.ts';
import { releasePinsOf } from './held-entries.ts';
import { TEST_MAP_COUNT_MAX, createTestMachine, versionedView } from './testing.ts';

function traced() {
  const clock = { now: 100, origin: undefined as string | undefined };
  const tracer = new GrantTracer({ now: () => clock.now, origin: () => clock.origin });
  const { granter, mappers } = createTestMachine(1, [versionedView(2, 1)]);
  const { domain, mapper } = mappers[0]!;
  return {
    clock,
    tracer,
    granter: granter.domain,
    table: tracer.traceTable(granter.domain, granter.table),
    to: domain,
    mapper: tracer.traceMapper(domain, mapper),
  };
}

describe('lifetime tracer', () => {
  it('knows who granted what to whom, who mapped it, and for how long', () => {
    const { clock, tracer, granter, table, to, mapper } = traced();
    clock.origin = 'blk 0';
    const ref = table.grantAccess(to, 7, false) as GrantRef;
    clock.now = 150;
    clock.origin = 'blkback';
    const handle = mapper.map(granter, ref, true) as GrantHandle;
    clock.now = 400;
    const mapping = { mapper: to, granter, ref, handle, writable: true, origin: 'blkback', ageMs: 250 };
    expect(tracer.report().grants).toEqual([
      {
        granter,
        ref,
        domain: to,
        kind: 'page',
        frame: 7,
        readonly: false,
        origin: 'blk 0',
        ageMs: 300,
        waitingMs: undefined,
        mappings: [mapping],
      },
    ]);
    expect(tracer.report(301).grants).toEqual([]);
    mapper.unmap(handle);
    clock.now = 500;
    expect(table.endAccess(ref)).toBe(true);
    expect(tracer.report()).toEqual({
      grants: [],
      foreignMappings: [],
      refusals: [],
      grantTotal: 1,
      mapTotal: 1,
      copyTotal: 0,
      grantMsMax: 400,
      mapMsMax: 250,
    });
  });

  it('shows what waits for its mapper, until it is reclaimed in whatever way', () => {
    const { clock, tracer, granter, table, to, mapper } = traced();
    const first = table.grantRange(to, 0, 3, false) as GrantRef;
    const handles = [1, 2].map(
      (index) => mapper.map(granter, (first + index) as GrantRef, false) as GrantHandle,
    );
    clock.now = 200;
    expect(table.endRange(first, 3)).toBe(false);
    clock.now = 260;
    expect(tracer.report().grants.map(({ ref, waitingMs }) => [ref - first, waitingMs])).toEqual([
      [1, 60],
      [2, 60],
    ]);
    for (const handle of handles) mapper.unmap(handle);
    expect(table.reclaimDeferred(1)).toBe(1);
    expect(tracer.report().grants).toHaveLength(1);
    while (table.freeCount > 0) table.grantAccess(to, 1, true); // reclaims the last by itself
    expect([table.grantAccess(to, 1, true) > 0, table.grantAccess(to, 1, true)]).toEqual([true, -1]);
    expect(tracer.report().grants.every(({ waitingMs }) => waitingMs === undefined)).toBe(true);
    expect(tracer.report().refusals).toEqual([{ operation: 'grant', code: 'full', count: 1 }]);
  });

  it('counts what was refused by operation and status', () => {
    const { tracer, granter, table, to, mapper } = traced();
    const ref = table.grantAccess(to, 1, true) as GrantRef;
    mapper.map(granter, ref, true);
    mapper.map(granter, ref, true);
    mapper.unmap(77 as GrantHandle);
    const list = new GrantCopyList(2);
    list.push(GNTCOPY_source_gref, granter, ref, 0, DOMID_SELF, 1, 0, 8);
    list.push(GNTCOPY_source_gref, granter, ref, 4000, DOMID_SELF, 1, 0, 800);
    mapper.copy(list);
    expect(tracer.report()).toMatchObject({
      copyTotal: 2,
      refusals: [
        { operation: 'map', code: 'GNTST_general_error', count: 2 },
        { operation: 'unmap', code: 'GNTST_bad_handle', count: 1 },
        { operation: 'copy', code: 'GNTST_bad_copy_arg', count: 1 },
      ],
    });
  });

  it('writes the report for a reader', () => {
    const { clock, tracer, granter, table, to, mapper } = traced();
    clock.origin = 'net 1';
    const ref = table.grantAccess(to, 3, true) as GrantRef;
    mapper.map(granter, ref, false);
    table.grantSubPage(to, 4, 8, 8, false);
    clock.now = 2600;
    table.endAccess(ref);
    clock.now = 2700;
    expect(formatGrantReport(tracer.report())).toBe(
      [
        `domain 3 grant ${ref} to domain 0: page of frame 3, read-only, 2.6 s old (net 1), waiting to end for 100 ms, mapped 1 times`,
        `  domain 0 handle 0 on 3:${ref}, read-only, for 2.6 s (net 1)`,
        `domain 3 grant ${ref + 1} to domain 0: sub-page of frame 4, writable, 2.6 s old (net 1), not mapped`,
        'refused: end in use, 1 times',
        '2 of 2 grants live (longest that ended: 0 ms), 1 mappings made (longest: 0 ms), 0 copies',
        '',
      ].join('\n'),
    );
  });
});

describeGrants({
  name: 'traced, version 2',
  create: () => {
    const { granter, mappers, tables } = createTestMachine(2, [versionedView(2, 2)]);
    const tracer = new GrantTracer({ now: () => 0 });
    const [mapper, stranger] = mappers.map((each) => ({
      ...each,
      mapper: tracer.traceMapper(each.domain, each.mapper),
    }));
    return {
      granter: { ...granter, table: tracer.traceTable(granter.domain, granter.table) },
      mapper: mapper!,
      stranger: stranger!,
      reservedCount: 8,
      mapCountMax: TEST_MAP_COUNT_MAX,
      killGranter: async () => void tables.delete(granter.domain),
      killMapper: async () => void releasePinsOf(granter.view, mapper!.domain),
      dispose: async () => {
        const { grants } = tracer.report();
        for (const { ref } of granter.table.live())
          if (!grants.some((each) => each.ref === ref)) throw new Error('untraced');
      },
    };
  },
});
