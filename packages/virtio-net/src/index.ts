export type { FrameReceiver, FrameSink, FrameView, NetPort } from './network.ts';
export {
  ACCEPT_ALL,
  ACCEPT_CSUM,
  ACCEPT_ECN,
  ACCEPT_TSO4,
  ACCEPT_TSO6,
  ACCEPT_USO,
  NO_OFFLOAD,
  type FrameOffload,
} from './frame-offload.ts';
export { createNetDevice, type NetDevice } from './device.ts';
export type { NetDeviceStatistics, NetDeviceWork } from './device-statistics.ts';
export { NET_DEVICE_FEATURES, type NetDeviceOptions } from './device-options.ts';
export { createNetDriver } from './driver.ts';
export type { NetDriver, NetDriverStatistics, StuckQueue } from './driver-contract.ts';
export type { NetControl, RssSettings } from './driver-control.ts';
export type { FrameHandler, ReceivedFrame } from './driver-receive.ts';
export type { Coalescing } from './notification-coalescer.ts';
export type { ReceiveModes } from './receive-filter.ts';
export {
  NET_DRIVER_ALL_FEATURES,
  NET_DRIVER_FEATURES,
  NET_DRIVER_OFFLOADS,
  type NetDriverOptions,
} from './driver-options.ts';
export { NetError, type NetErrorCode } from './errors.ts';
export { createDriverPort } from './driver-port.ts';
export { joinPorts, type JoinOptions } from './join-ports.ts';
export {
  createLearningSwitch,
  type KnownAddress,
  type LearningSwitch,
  type LearningSwitchOptions,
} from './learning-switch.ts';
export type { SwitchPort, SwitchPortStatistics } from './switch-port.ts';
export { createHostPort, type HostPort, type HostPortOptions } from './host-port.ts';
