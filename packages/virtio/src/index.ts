export {
  TransportError,
  type DeviceActivation,
  type DeviceModel,
  type DeviceTransport,
  type DriverLink,
  type DriverTransport,
  type HandOverHandler,
  type LentMemory,
  type QueueTakeover,
  type TransportCapabilities,
  type VirtioDevice,
} from './contract.ts';
export {
  POSITION_TAKEN,
  ringFeatures,
  type DescriptorChain,
  type DeviceQueue,
  type QueueAddresses,
  type QueueHandOver,
  type QueuePosition,
  type RingFeatures,
  type RingSnapshot,
  type RingViolation,
  type TakenChain,
  type TakenDescriptor,
} from '@virtlab/vring';
export { readConfig } from './config.ts';
export { DeviceHost, type DeviceHostOptions, type DeviceViolation } from './device-host.ts';
export type { DeviceQueueStatistics } from './hosted-queue.ts';
export type { QueueStopOptions } from './queue-stops.ts';
export { advanceStatus, describeStatus, type StatusSteps } from './device-status.ts';
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
