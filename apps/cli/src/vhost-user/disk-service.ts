import { readFileSync } from 'node:fs';
import { VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import {
  BlkBackendError,
  type BlockBackend,
  createBlkDevice,
  createMemoryBackend,
  createNullBackend,
} from '@virtlab/virtio-blk';
import { type RawFileBackend, openRawFileBackend } from '@virtlab/virtio-blk/node';
import { StartError } from '../start-error.ts';
import type { BlkPlan } from './daemon-plan.ts';
import { ServedDevice, type ServedDeviceOptions } from './served-device.ts';
import type { Service } from './service.ts';

/**
 * Linux makes indirect tables of two descriptors more than segments are allowed, whatever the size of the ring, and QEMU makes
 * rings of 128 unless it is told otherwise: more would break §2.7.5.3.1 there.
 */
const SEGMENT_COUNT_MAX = 126;

/** Opens the disk and serves it. Rejects with `StartError` for an image that cannot be used. */
export async function serveDisk(
  plan: BlkPlan,
  options: Omit<ServedDeviceOptions, 'device'>,
): Promise<Service> {
  const { serial, queueCount, queueSize, discard } = plan;
  const disk = await openDisk(plan, (message) => options.report({ event: 'warning', message }));
  const segMax = Math.min(queueSize - 2, SEGMENT_COUNT_MAX);
  const device = createBlkDevice({ backend: disk, serial, queueCount, queueSize, segMax, discard });
  let served: ServedDevice;
  try {
    served = new ServedDevice({ ...options, device, legacy: true });
  } catch (error) {
    await disk.close();
    throw error;
  }
  return {
    refresh: () => disk.refresh?.(),
    close: async () => {
      await served.close();
      await disk.close();
    },
  };
}

/** An image's size may change. */
type Disk = BlockBackend & Partial<Pick<RawFileBackend, 'refresh'>>;

async function openDisk(plan: BlkPlan, warn: (message: string) => void): Promise<Disk> {
  const { backend, file, size, readOnly } = plan;
  if (backend === 'null') {
    return createNullBackend({ capacitySectors: size! / VIRTIO_BLK_SECTOR_SIZE, readOnly });
  }
  try {
    if (backend === 'memory') {
      return createMemoryBackend({ contents: file === undefined ? size! : readFileSync(file), readOnly });
    }
    return await openRawFileBackend({
      path: file!,
      readOnly,
      lock: true,
      onError: ({ message }) => warn(message),
    });
  } catch (error) {
    const kind = error instanceof BlkBackendError && error.code === 'EAGAIN' ? 'environment' : 'usage';
    throw new StartError(kind, error instanceof Error ? error.message : String(error));
  }
}
