export { startTestpmd, type Testpmd } from './testpmd.ts';
export type { ForwardMode, TestpmdOptions, TestpmdPort, VdevArguments } from './testpmd-options.ts';
export type { ForwardStatistics, PortStatistics } from './testpmd-statistics.ts';
export { TESTPMD_PACKAGES, testpmdUnavailable } from './testpmd-unavailable.ts';
