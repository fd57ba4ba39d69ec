export {
  TransportError,
  type DeviceActivation,
  type DeviceModel,
  type DeviceTransport,
  type DriverLink,
  type DriverTransport,
  type TransportCapabilities,
  type VirtioDevice,
} from './contract.ts';
export { readConfig } from './config.ts';
export { DeviceHost, type DeviceHostOptions, type DeviceViolation } from './device-host.ts';
export type { DeviceQueueStatistics } from './hosted-queue.ts';
export { describeStatus } from './device-status.ts';
export type { DriverSession } from './driver-session.ts';
export type { DriverQueueStatistics } from './call-service.ts';
export {
  ALL_RING_FEATURES,
  RING_FEATURES,
  describeFeatures,
  featureNumbers,
  negotiateFeatures,
  refuseFeatureSet,
  type FeatureOutcome,
} from './features.ts';
export { initializeDevice, type InitializeOptions } from './initialize-device.ts';
