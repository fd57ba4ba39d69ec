import { TestRunner } from 'vitest';
import type { DriverTransport } from '../contract.ts';

/** Requirements that a legacy interface (§2.2.3, §3.1.2) does not have, and what it has in their place. */
const MODERN_ONLY: readonly (readonly [RegExp, string])[] = [
  [
    /bits set out of order|all feature bits|bit by bit|FEATURES_OK|whose set is refused/,
    'it has no FEATURES_OK',
  ],
  [
    /some of its queues|the size limit of each queue/,
    'it does not count queues, and its size is not negotiable',
  ],
  [/the generation changes/, 'it has no configuration generation'],
  [
    /^§2\.1\.2 (?!NEEDS_RESET reaches)|ring addresses/,
    'the rings that this test writes are those of VERSION_1, in areas of their own',
  ],
];

/** Skips the current test where the transport drives a legacy interface and the requirement is not one of it. */
export function skipOutsideLegacy({ capabilities }: DriverTransport): void {
  if (capabilities.legacy !== true) return;
  const test = TestRunner.getCurrentTest();
  const scope = MODERN_ONLY.find(([name]) => test !== undefined && name.test(test.name));
  if (scope !== undefined) test?.context.skip(`capabilities: legacy: ${scope[1]}`);
}
