import type { BlkPlan } from './daemon-plan.ts';
import { createDisk, openDisk } from './open-disk.ts';
import { ServedDevice, type ServedDeviceOptions } from './served-device.ts';
import type { Service } from './service.ts';

/** Opens the disk and serves it in this thread. Rejects with `StartError` for an image that cannot be used. */
export async function serveDisk(
  plan: BlkPlan,
  options: Omit<ServedDeviceOptions, 'device'>,
): Promise<Service> {
  const disk = await openDisk(plan, { warn: (message) => options.report({ event: 'warning', message }) });
  let served: ServedDevice;
  try {
    served = new ServedDevice({ ...options, device: createDisk(plan, disk), legacy: true });
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
