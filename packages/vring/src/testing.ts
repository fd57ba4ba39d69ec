export { missingOfBroken } from './testing/broken-queue.ts';
export {
  createDeviceRig,
  createPackedDeviceRig,
  type DeviceRig,
  type DeviceRigOptions,
  type PackedDeviceRig,
} from './testing/device-rig.ts';
export {
  createDriverRig,
  createPackedDriverRig,
  type DriverRig,
  type DriverRigOptions,
  type PackedDriverRig,
} from './testing/driver-rig.ts';
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
export {
  packedAvailableFlags,
  packedUsedFlags,
  RawPackedRing,
  rawPackedRingAddresses,
  rawPackedRingSize,
  type RawPackedDescriptor,
  type RawPackedEvent,
} from './testing/packed-raw-ring.ts';
export { PackedScriptedDevice } from './testing/packed-scripted-device.ts';
export { PackedScriptedDriver } from './testing/packed-scripted-driver.ts';
