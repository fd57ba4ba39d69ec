import { describe } from 'vitest';
import { describeGranting } from './conformance/granting.ts';
import { describeHostility } from './conformance/hostility.ts';
import { type GrantConformance, onMachine } from './conformance/machine.ts';
import { describeMapping } from './conformance/mapping.ts';

export type { GrantConformance, GrantMachine } from './conformance/machine.ts';

/**
 * Certifies a `GrantTable` and a `GrantMapper` that meet over one version 1 table: the statuses of xen/grant_table.h, the
 * in-use protocol, ranges, hostile granters, deaths. Each test runs on an instance of its own and ends by asserting that
 * nothing is granted or mapped.
 */
export function describeGrants(suite: GrantConformance): void {
  describe(`grants: ${suite.name}`, () => {
    const machine = onMachine(suite);
    describeGranting(machine);
    describeMapping(machine);
    describeHostility(machine);
  });
}
