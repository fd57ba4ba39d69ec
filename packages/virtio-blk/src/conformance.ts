/** The suite by which a disk behind any transport shows that our driver works on it. It needs vitest and the contracts. */
import { describe } from 'vitest';
import { type BlkDriverSetup, describeDriver } from './conformance/driver-suite.ts';

export type { BlkDriverSetup, DiskUnderTest } from './conformance/driver-suite.ts';

/** Every requirement on `createBlkDriver` before a disk that may be anybody's. */
export function describeBlkDriver(setup: BlkDriverSetup): void {
  describe(`blk driver: ${setup.name}`, () => {
    describeDriver(setup);
  });
}
