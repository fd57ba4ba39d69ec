export {
  BACKEND_PENDING,
  BlkBackendError,
  type BackendCompletion,
  type BlkLifetime,
  type BlockBackend,
} from './backend.ts';
export { BlockVector, VECTOR_COUNT_MAX } from './block-vector.ts';
export { createMemoryBackend, type MemoryBackendOptions } from './memory-backend.ts';
export { createNullBackend, type NullBackendOptions } from './null-backend.ts';
export { createSparseBackend, type SparseBackend, type SparseBackendOptions } from './sparse-backend.ts';
export { createZonedBackend, type ZonedBackend, type ZonedBackendOptions } from './zoned-backend.ts';
export { zoneDescription, type BlockZones, type ZoneDescription, type ZoneLayout } from './zone-contract.ts';
export type { ZoneStore } from './zone-store.ts';
export { ZoneTable } from './zone-table.ts';
export { createBlkDevice, type BlkDevice } from './device.ts';
export type { BlkDeviceStatistics } from './device-statistics.ts';
export type { BlkDeviceOptions } from './device-options.ts';
export { createBlkDriver } from './driver.ts';
export type { BlkDriver, BlkDriverStatistics } from './driver-contract.ts';
export type { BlkQueueStatistics } from './driver-queue.ts';
export type { BlkZone, BlkZoneState, BlkZoneType, BlkZones } from './driver-zones.ts';
export type { BlkGeometry, BlkTopology } from './disk-shape.ts';
export { BLK_DRIVER_FEATURES, type BlkDriverOptions } from './driver-options.ts';
export {
  BlkError,
  COMPLETION_ECANCELED,
  COMPLETION_ENODEV,
  COMPLETION_EPROTO,
  COMPLETION_ETIMEDOUT,
  type BlkErrorCode,
} from './errors.ts';
export { followDiskProfile, readDiskProfile } from './disk-profile.ts';
export type { DiskProfile, RangeLimit, ZonedProfile } from './driver-config.ts';
export { writeHeader, writeRange } from './protocol.ts';
