export { missingOfBroken } from './testing/broken-queue.ts';
export { createDeviceRig, type DeviceRig, type DeviceRigOptions } from './testing/device-rig.ts';
export { createDriverRig, type DriverRig, type DriverRigOptions } from './testing/driver-rig.ts';
export {
  RawRing,
  reachDeviceMemory,
  reachRegion,
  type Reach,
  rawRingAddresses,
  rawRingSize,
  type RawDescriptor,
  type RawUsed,
} from './testing/raw-ring.ts';
export { RingCycle, type RingCycleOptions } from './testing/ring-cycle.ts';
export { ScriptedDevice } from './testing/scripted-device.ts';
export { ScriptedDriver } from './testing/scripted-driver.ts';
