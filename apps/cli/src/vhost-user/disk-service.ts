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

/** Opens the disk and serves it. Rejects with `StartError` for an image that cannot be used. */
export async function serveDisk(
  plan: BlkPlan,
  options: Omit<ServedDeviceOptions, 'device'>,
): Promise<Service> {
  const { serial, queueCount, queueSize, discard } = plan;
  const disk = await openDisk(plan, (message) => options.report({ event: 'warning', message }));
  const device = createBlkDevice({ backend: disk, serial, queueCount, queueSize, discard });
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
