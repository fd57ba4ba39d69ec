export {
  backendPath,
  backendsPath,
  domainPath,
  frontendPath,
  frontendsPath,
  type DeviceId,
} from './paths.ts';
export { XenbusError } from './errors.ts';
export {
  isMissing,
  parseState,
  readState,
  stateName,
  switchState,
  writeKeys,
  type XenbusKeys,
} from './state.ts';
export { transact, type Pause } from './transact.ts';
export { followNode, isLost } from './follow-node.ts';
export { formatHex64, parseHex64, parseNumber, quote } from './values.ts';
export {
  createDevice,
  detachDevice,
  offlineDevice,
  removeDevice,
  type DetachOptions,
  type DeviceDescription,
} from './toolstack.ts';
export { XenbusDevice, openXenbusDevice, type XenbusDeviceOptions } from './xenbus-device.ts';
export {
  watchDevices,
  type DeviceDirectory,
  type DeviceWatch,
  type DeviceWatchHandlers,
} from './device-watch.ts';
