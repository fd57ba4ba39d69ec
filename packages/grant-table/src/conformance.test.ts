import { GNTTAB_NR_RESERVED_ENTRIES } from '@virtlab/abi/grant-table';
import { describeGrants } from './conformance.ts';
import { releasePinsOf } from './entries.ts';
import { TEST_MAP_COUNT_MAX, createTestMachine } from './testing.ts';

describeGrants({
  name: 'one thread',
  create: () => {
    const { granter, mappers, tables } = createTestMachine();
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
