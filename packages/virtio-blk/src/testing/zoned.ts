import { VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import type { BlockBackend } from '../backend.ts';
import { createMemoryBackend } from '../memory-backend.ts';
import { type ZonedBackend, type ZonedBackendOptions, createZonedBackend } from '../zoned-backend.ts';
import { CAPACITY } from './scenes.ts';

export const ZONE_SECTORS = 32;

/** Eight zones, the first conventional; the memory behind it is dirty, so that what nobody wrote would show. */
export function zonedDisk(
  options: Partial<ZonedBackendOptions> = {},
  inner: BlockBackend = createMemoryBackend({
    contents: new Uint8Array(CAPACITY * VIRTIO_BLK_SECTOR_SIZE).fill(0xee),
  }),
): ZonedBackend {
  return createZonedBackend({
    backend: inner,
    model: 'host-managed',
    zoneSectors: ZONE_SECTORS,
    conventionalCount: 1,
    maxAppendSectors: 8,
    ...options,
  });
}
