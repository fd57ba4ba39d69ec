import { GNTTAB_NR_RESERVED_ENTRIES } from '@virtlab/abi/grant-table';
import { describeGrants } from './conformance.ts';
import type { GrantTableView } from './contract.ts';
import { releasePinsOf } from './held-entries.ts';
import { TEST_MAP_COUNT_MAX, createTestMachine, testView, versionedView } from './testing.ts';

const VIEWS: Readonly<Record<string, () => GrantTableView>> = {
  'one thread, version 1 for good': () => testView(2),
  'one thread, version 1': () => versionedView(1, 2),
  'one thread, version 2': () => versionedView(2, 2),
};

for (const [name, view] of Object.entries(VIEWS)) {
  describeGrants({
    name,
    create: () => {
      const { granter, mappers, tables } = createTestMachine(2, [view()]);
      const [mapper, stranger] = mappers;
      return {
        granter,
        mapper: mapper!,
        stranger: stranger!,
        reservedCount: GNTTAB_NR_RESERVED_ENTRIES,
        mapCountMax: TEST_MAP_COUNT_MAX,
        killGranter: async () => void tables.delete(granter.domain),
        killMapper: async () => void releasePinsOf(granter.view, mapper!.domain),
        dispose: async () => {},
      };
    },
  });
}
