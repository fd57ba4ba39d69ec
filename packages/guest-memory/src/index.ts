export {
  MEMORY_REGION_SIZE_MAX,
  loadIndexAcquire,
  loadWordAcquire,
  memoryRegion,
  storeIndexRelease,
  storeWordRelease,
  type MemoryRegion,
} from './memory-region.ts';
export { SegmentList } from './segment-list.ts';
export {
  DMA_BIDIRECTIONAL,
  DMA_FAULT_ADDRESS,
  DMA_FAULT_GRANT,
  DMA_FAULT_LIMIT,
  DMA_FAULT_READONLY,
  DMA_FROM_DEVICE,
  DMA_OK,
  DMA_TO_DEVICE,
  DmaError,
  type CoherentBuffer,
  type DeviceMemory,
  type DmaDirection,
  type DmaMapper,
  type DmaStatus,
  type MappedArea,
} from './dma.ts';
export { PAGE_SIZE, PageAllocator } from './page-allocator.ts';
export { IdentityDmaMapper, type IdentityDmaMapperOptions } from './identity-dma-mapper.ts';
export { IdentityDeviceMemory, type GuestRange } from './identity-device-memory.ts';
