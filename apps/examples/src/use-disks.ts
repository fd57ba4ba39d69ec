/**
 * Runs the program of `driver-program.ts` on disks, one after the other: `use-disks.ts ours.sock theirs.sock domU`. A path is that of a
 * socket where somebody serves a disk by vhost-user; `domU` is the disk of a domain that is made for it.
 */
import { createNodeAioContext } from '@virtlab/aio/node';
import { createLocalSystem } from '@virtlab/domain/testing';
import { createBlkDevice, createMemoryBackend } from '@virtlab/virtio-blk';
import type { DiskReport } from './driver-program.ts';
import { overVhostUser, overXenbus } from './three-disks.ts';

const DOMAIN_DISK_SIZE = 1 << 20;

async function onSocket(path: string): Promise<DiskReport> {
  const aio = createNodeAioContext();
  try {
    return await overVhostUser(path, aio);
  } finally {
    aio[Symbol.dispose]();
  }
}

/** Domain 0 has the device, and the program runs in the domU; both in this thread. */
async function inDomain(): Promise<DiskReport> {
  const system = await createLocalSystem();
  const device = createBlkDevice({ backend: createMemoryBackend({ contents: DOMAIN_DISK_SIZE }) });
  const { domain, store } = await system.addGuest('guest', 'pv', (guest) =>
    system.services.devices.plug(guest, 0, device, 'blk', 'xenbus'),
  );
  try {
    return await overXenbus(domain, store);
  } finally {
    await system.close();
  }
}

const disks = process.argv.slice(2);
if (disks.length === 0) {
  console.error('Which disks? Paths of sockets, or domU. The first 256 KiB of each are overwritten.');
  process.exitCode = 2;
}
for (const disk of disks) {
  const { capacity, blocksWritten, wrongBlocks } = disk === 'domU' ? await inDomain() : await onSocket(disk);
  console.log(`${disk}: ${capacity} bytes, ${blocksWritten} blocks written, ${wrongBlocks.length} wrong`);
  if (wrongBlocks.length > 0) process.exitCode = 1;
}
