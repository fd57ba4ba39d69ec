export { CountingDeviceMemory } from './testing/counting-device-memory.ts';
export { HostileDmaMapper, POISON, type HostileDmaMapperOptions } from './testing/hostile-dma-mapper.ts';
export { gather, scatter } from './testing/segments.ts';
