import { describe } from 'vitest';
import { describeCopying } from './conformance/copying.ts';
import { describeDeferring } from './conformance/deferring.ts';
import { describeGranting } from './conformance/granting.ts';
import { describeHostility } from './conformance/hostility.ts';
import { type GrantConformance, onMachine } from './conformance/machine.ts';
import { describeMapping } from './conformance/mapping.ts';

export type { GrantConformance, GrantMachine } from './conformance/machine.ts';

/**
 * Certifies a granter and mappers that meet over one table, of the version that it has: the statuses of xen/grant_table.h,
 * the in-use protocol, ranges, copies, deferred ends, hostile granters, deaths. Each test runs on an instance of its own and ends by asserting that
 * nothing is granted or mapped.
 */
export function describeGrants(suite: GrantConformance): void {
  describe(`grants: ${suite.name}`, () => {
    const machine = onMachine(suite);
    describeGranting(machine);
    describeMapping(machine);
    describeCopying(machine);
    describeDeferring(machine);
    describeHostility(machine);
  });
}
