export { connectVirtioXenbus, type ConnectVirtioXenbusOptions } from './connect.ts';
export { reconnectVirtioXenbus, type ReconnectVirtioXenbusOptions } from './reconnect.ts';
export type { XenbusProfile } from './profile.ts';
export { serveVirtioXenbus } from './backend.ts';
export type { ServeVirtioXenbusOptions, VirtioXenbusBackend } from './backend-contract.ts';
export { watchVirtioBackends, type VirtioBackends, type VirtioBackendsOptions } from './backend-service.ts';
export { deviceTypeText, parseDeviceType } from './device-offer.ts';
export { createGrantDmaMapper, type GrantDmaMapper, type GrantDmaMapperOptions } from './grant-dma-mapper.ts';
export {
  createGrantDeviceMemory,
  type GrantDeviceMemory,
  type GrantDeviceMemoryOptions,
} from './grant-device-memory.ts';
