/** One program on three disks. What differs is the line that makes the link. */
import { VIRTIO_ID_BLOCK } from '@virtlab/abi/virtio';
import type { AioContext } from '@virtlab/aio';
import type { NodeAioContext } from '@virtlab/aio/node';
import { type Domain, connectDevices } from '@virtlab/domain';
import { connectVhostUser } from '@virtlab/vhost-user';
import type { Xenstore } from '@virtlab/xenstore';
import { type DiskReport, useDisk } from './driver-program.ts';

/** Somebody else's disk, exported by qemu-storage-daemon; or ours, by `virtlab vhost-user-blk`: another path, no other line. */
export async function overVhostUser(path: string, aio: NodeAioContext): Promise<DiskReport> {
  await using link = await connectVhostUser({ path, aio, deviceType: VIRTIO_ID_BLOCK });
  return await useDisk(link, aio);
}

/** The disk of a domU, whose device lives in domain 0. */
export async function overXenbus(
  domain: Domain,
  store: Xenstore,
  aio: AioContext = domain.aio,
): Promise<DiskReport> {
  await using link = (await connectDevices(domain, store, 'xenbus')).byType.get(VIRTIO_ID_BLOCK)!;
  return await useDisk(link, aio);
}
