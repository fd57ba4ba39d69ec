import { VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import { pageMemory } from '@virtlab/linux';
import {
  type BlockBackend,
  createBlkDevice,
  createMemoryBackend,
  createNullBackend,
} from '@virtlab/virtio-blk';
import { openRawFileBackend } from '@virtlab/virtio-blk/node';
import type { VirtioDevice } from '@virtlab/virtio';
import { DISK_SIZE } from './block-positions.ts';

export const BACKEND_NAMES = ['null', 'memory', 'raw file'] as const;
export type BackendName = (typeof BACKEND_NAMES)[number];

/** What a disk is made of. `path` is the image, for a raw file. */
export interface DiskPlan {
  readonly backend: BackendName;
  readonly path: string;
  /** Default 1. */
  readonly queueCount?: number;
  /** Requests that follow each other are done as one operation. Default true. */
  readonly isMerging?: boolean;
}

export async function createDisk(plan: DiskPlan): Promise<VirtioDevice> {
  const { backend, path, queueCount = 1, isMerging = true } = plan;
  const merging = isMerging ? {} : { mergeCountMax: 1 };
  return createBlkDevice({ backend: await createBackend(backend, path), queueCount, ...merging });
}

async function createBackend(name: BackendName, path: string): Promise<BlockBackend> {
  switch (name) {
    case 'null':
      return createNullBackend({ capacitySectors: DISK_SIZE / VIRTIO_BLK_SECTOR_SIZE });
    case 'memory':
      return createMemoryBackend({ contents: pageMemory(DISK_SIZE) });
    case 'raw file':
      return await openRawFileBackend({ path });
  }
}
