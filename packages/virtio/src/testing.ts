/** What tests of drivers, devices and transports are made of. Needs no test runner. */
export { type Settling, runUntil, runUntilDone } from './testing/run-until.ts';
export {
  type ScriptedChain,
  ScriptedTransport,
  type ScriptedTransportOptions,
} from './testing/scripted-transport.ts';
export { SimulatedLoops } from './testing/simulated-loops.ts';
