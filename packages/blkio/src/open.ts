import { VIRTIO_ID_BLOCK } from '@virtlab/abi/virtio';
import { type DriverLink, initializeDevice } from '@virtlab/virtio';
import { readDiskProfile } from '@virtlab/virtio-blk';
import type { Blkio, BlkioOptions } from './contract.ts';
import { SessionBlkio } from './disk.ts';
import { BlkioError } from './errors.ts';
import { BUFFER_COUNT_MAX, resolveOptions } from './options.ts';

/**
 * Brings up the disk behind `link`, which stays the caller's to dispose.
 *
 * Rejects as `initializeDevice`; with `BlkioError` or `BlkError` `EPROTO` when the device is no disk or its configuration
 * makes no sense; with `DmaError` when there is no memory for requests. Nothing stays lent then. Rejects with
 * `RangeError` for bad options.
 */
export async function openBlkio(link: DriverLink, options: BlkioOptions): Promise<Blkio> {
  const resolved = resolveOptions(options);
  const { deviceType, queueCount } = link.transport;
  if (deviceType !== VIRTIO_ID_BLOCK)
    throw new BlkioError('EPROTO', `device type ${deviceType} is not a disk`);
  const session = await initializeDevice(link, {
    aio: resolved.aio,
    wanted: resolved.wanted,
    queueCount: Math.max(1, Math.min(resolved.queueCount, queueCount)),
    queueSizeMax: resolved.queueSize,
    timeoutMs: resolved.timeoutMs,
    bufferCountMax: BUFFER_COUNT_MAX,
  });
  let disk: SessionBlkio | undefined;
  try {
    disk = new SessionBlkio(session, await readDiskProfile(session), resolved);
    disk.begin();
    return disk;
  } catch (error) {
    await session.stop().then(
      () => disk?.release(),
      () => undefined,
    );
    throw error;
  }
}
