import { VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import {
  BlkBackendError,
  type BlkDevice,
  type BlockBackend,
  createBlkDevice,
  createMemoryBackend,
  createNullBackend,
} from '@virtlab/virtio-blk';
import { type RawFileBackend, openRawFileBackend } from '@virtlab/virtio-blk/node';
import { StartError } from '../start-error.ts';
import type { BlkPlan } from './daemon-plan.ts';
import { memoryContents } from './memory-contents.ts';

/**
 * Linux makes indirect tables of two descriptors more than segments are allowed, whatever the size of the ring, and QEMU makes
 * rings of 128 unless it is told otherwise: more would break §2.7.5.3.1 there.
 */
export const SEGMENT_COUNT_MAX = 126;

/** An image's size may change. */
export type Disk = BlockBackend & Partial<Pick<RawFileBackend, 'refresh' | 'fd'>>;

export interface OpenDiskOptions {
  readonly warn: (message: string) => void;
  /** Keeps others from the image. Default true. */
  readonly lock?: boolean;
  /** The image as it is open already: the same file is served, whatever is at its path by now. */
  readonly heldFd?: number;
  /** What a disk in memory is made of; default memory of its own. */
  readonly contents?: Uint8Array;
}

/** Rejects with `StartError` for an image that cannot be used. */
export async function openDisk(
  plan: BlkPlan,
  { warn, lock = true, contents, heldFd }: OpenDiskOptions,
): Promise<Disk> {
  const { backend, file, size, readOnly } = plan;
  if (backend === 'null') {
    return createNullBackend({ capacitySectors: size! / VIRTIO_BLK_SECTOR_SIZE, readOnly });
  }
  return await opened(async () => {
    if (backend === 'memory')
      return createMemoryBackend({ contents: contents ?? (await memoryContents(plan)), readOnly });
    return await openRawFileBackend({
      path: file!,
      readOnly,
      lock,
      ...(heldFd === undefined ? {} : { heldFd }),
      onError: ({ message }) => warn(message),
    });
  });
}

/** What a disk in memory begins with, for several threads. Rejects as `openDisk`; undefined for other disks. */
export async function sharedContents(plan: BlkPlan): Promise<Uint8Array | undefined> {
  if (plan.backend !== 'memory') return undefined;
  return await opened(async () => await memoryContents(plan, { shared: true }));
}

export function createDisk(
  { serial, queueCount, queueSize, discard }: BlkPlan,
  backend: BlockBackend,
): BlkDevice {
  const segMax = Math.min(queueSize - 2, SEGMENT_COUNT_MAX);
  return createBlkDevice({ backend, serial, queueCount, queueSize, segMax, discard });
}

async function opened<Value>(open: () => Promise<Value>): Promise<Value> {
  try {
    return await open();
  } catch (error) {
    if (error instanceof StartError) throw error;
    const kind = error instanceof BlkBackendError && error.code === 'EAGAIN' ? 'environment' : 'usage';
    throw new StartError(kind, error instanceof Error ? error.message : String(error));
  }
}
