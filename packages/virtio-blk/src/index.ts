export { BACKEND_PENDING, BlkBackendError, type BackendCompletion, type BlockBackend } from './backend.ts';
export { createMemoryBackend, type MemoryBackendOptions } from './memory-backend.ts';
export { createNullBackend, type NullBackendOptions } from './null-backend.ts';
export { createSparseBackend, type SparseBackend, type SparseBackendOptions } from './sparse-backend.ts';
export { createBlkDevice, type BlkDevice, type BlkDeviceStatistics } from './device.ts';
export type { BlkDeviceOptions } from './device-options.ts';
export { createBlkDriver } from './driver.ts';
export type { BlkDriver, BlkDriverStatistics } from './driver-contract.ts';
export { BLK_DRIVER_FEATURES, type BlkDriverOptions } from './driver-options.ts';
export {
  BlkError,
  COMPLETION_ENODEV,
  COMPLETION_EPROTO,
  COMPLETION_ETIMEDOUT,
  type BlkErrorCode,
} from './errors.ts';
