/** What tests of drivers, devices and transports are made of. Needs no test runner. */
export { type Settling, runUntil, runUntilDone } from './testing/run-until.ts';
export {
  type ScriptedChain,
  ScriptedTransport,
  type ScriptedTransportOptions,
} from './testing/scripted-transport.ts';
export { SimulatedLoops } from './testing/simulated-loops.ts';
export { type RingPair, createRingPair } from './testing/ring-pair.ts';
/** A driver's half of a ring, for tests of transports, which know no ring. */
export { ADD_FULL, createBufferList, createDriverQueue } from '@virtlab/vring';
export type { BufferList, DriverQueue } from '@virtlab/vring';
/** And a device's, for what stands between a ring and a device. */
export { createDeviceQueue } from '@virtlab/vring';
/** The two data planes, for what puts them together without a transport. */
export { CallService } from './call-service.ts';
export { QueueService } from './queue-service.ts';
