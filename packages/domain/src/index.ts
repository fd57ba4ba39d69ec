export { bootDomain, type Domain } from './domain.ts';
export { DomainError } from './errors.ts';
export { createDeviceModel, type DeviceModelServer } from './device-model.ts';
export { createHvmPlatform, type HvmPlatform } from './hvm-platform.ts';
export { connectOwnXenstore } from './start-of-day.ts';
export { startXenstored, type XenstoredService } from './xenstored.ts';
export {
  createToolstack,
  onShutdownRequest,
  type Guest,
  type GuestConfig,
  type Toolstack,
  type XenbusDeviceKeys,
} from './toolstack.ts';
export { connectDevices, type DeviceBus, type DeviceLinks, type ReconnectWait } from './connect-devices.ts';
export { createDeviceServer, type DeviceServer } from './device-server.ts';
export { serveBackends, type DriverDomainOptions } from './driver-domain.ts';
export { startDom0, type Dom0Options, type Dom0Services } from './dom0.ts';
export { createXenMemory, type XenMemoryOptions } from './xen-memory.ts';
export { runProgram, type DomainProgramModule } from './program.ts';
