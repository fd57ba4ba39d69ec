export {
  ADD_BROKEN,
  ADD_FULL,
  ADD_NO_ADDRESS,
  POSITION_TAKEN,
  type BufferList,
  type DescriptorChain,
  type DeviceQueue,
  type DeviceQueueOptions,
  type DriverQueue,
  type DriverQueueOptions,
  type PackedEventSnapshot,
  type PackedPosition,
  type PackedRingSnapshot,
  type QueueAddresses,
  type QueueHandOver,
  type QueuePosition,
  type RingFeatures,
  type RingSnapshot,
  type RingViolation,
  type SplitRingSnapshot,
  type TakenChain,
  type TakenDescriptor,
} from './contract.ts';
export { createBufferList } from './buffer-list.ts';
export { TABLE_ENTRY_WORDS, tableLink, writeTableEntry } from './coherent-table.ts';
export { createDeviceQueue, type DeviceQueueResult } from './device-queue.ts';
export { createDriverQueue } from './driver-queue.ts';
export { vringNeedEvent } from './need-event.ts';
export { ringFeatures } from './ring-features.ts';
