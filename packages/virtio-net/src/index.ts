export type { FrameReceiver, FrameSink, FrameView, NetPort } from './network.ts';
export { createNetDevice, type NetDevice, type NetDeviceStatistics } from './device.ts';
export { NET_DEVICE_FEATURES, type NetDeviceOptions } from './device-options.ts';
export { createNetDriver } from './driver.ts';
export type { NetDriver, NetDriverStatistics } from './driver-contract.ts';
export { NET_DRIVER_FEATURES, type NetDriverOptions } from './driver-options.ts';
export { NetError, type NetErrorCode } from './errors.ts';
export {
  createLearningSwitch,
  type KnownAddress,
  type LearningSwitch,
  type LearningSwitchOptions,
} from './learning-switch.ts';
export type { SwitchPort, SwitchPortStatistics } from './switch-port.ts';
export { createHostPort, type HostPort, type HostPortOptions } from './host-port.ts';
