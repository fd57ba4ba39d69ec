export { describeDmaMapper, type DmaMapperCase, type DmaMapperSubject } from './conformance/dma-mapper.ts';
export {
  describeDeviceMemory,
  type DeviceMemoryCase,
  type DeviceMemorySubject,
  type LentBytes,
} from './conformance/device-memory.ts';
