/**
 * The suites by which transports and devices certify themselves. They need vitest and the contracts, nothing else.
 * Test names are requirements; sections are those of VIRTIO 1.4.
 */
import { describe } from 'vitest';
import {
  describeConfiguration,
  describeNegotiation,
  describeQueueSetup,
  describeStatusMachine,
} from './conformance/control-plane.ts';
import { describeDataPlane } from './conformance/data-plane.ts';
import { describeDeviceContract, type DeviceSetup } from './conformance/device-contract.ts';
import { describeBrokenDevices, describeReset, describeViolations } from './conformance/faults.ts';
import type { ForeignSetup } from './conformance/foreign-bench.ts';
import { describeForeign } from './conformance/foreign-device.ts';
import { describeQueueReset } from './conformance/queue-reset.ts';
import type { TransportSetup } from './conformance/transport-under-test.ts';

export {
  createMemoryBench,
  identityMemory,
  type LentMemory,
  type LoopPair,
  type MemoryBench,
  type MemoryBenchOptions,
} from './conformance/memory-bench.ts';
export { SimulatedLoops } from './testing/simulated-loops.ts';
export type {
  Divergences,
  ForeignClient,
  ForeignSetup,
  ForeignUnderTest,
} from './conformance/foreign-bench.ts';
export type { DeviceBench, DeviceSetup } from './conformance/device-contract.ts';
export type { TransportSetup, TransportUnderTest } from './conformance/transport-under-test.ts';

/** Every requirement on a transport; each test gets an isolated one from `setup.create` and ends by asking for leaks. */
export function describeTransport(setup: TransportSetup): void {
  describe(`transport: ${setup.name}`, () => {
    describeStatusMachine(setup);
    describeNegotiation(setup);
    describeQueueSetup(setup);
    describeConfiguration(setup);
    describeDataPlane(setup);
    describeViolations(setup);
    describeBrokenDevices(setup);
    describeReset(setup);
    describeQueueReset(setup);
  });
}

/** Every requirement on a device, whatever its type. */
export function describeDevice(setup: DeviceSetup): void {
  describe(`device: ${setup.name}`, () => {
    describeDeviceContract(setup);
  });
}

/** What can be required of a device that somebody else wrote, and of our transport to it, from the driver's side alone. */
export function describeForeignDevice(setup: ForeignSetup): void {
  describe(`foreign device: ${setup.name}`, () => {
    describeForeign(setup);
  });
}
