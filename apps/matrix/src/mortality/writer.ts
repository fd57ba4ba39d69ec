import { VIRTIO_ID_BLOCK, VIRTIO_ID_NET } from '@virtlab/abi/virtio';
import { createPrng } from '@virtlab/aio';
import { type Domain, connectDevices, connectOwnXenstore, onShutdownRequest } from '@virtlab/domain';
import { createBlkDriver } from '@virtlab/virtio-blk';
import { type NetDriver, createNetDriver } from '@virtlab/virtio-net';
import { STATION_MAC } from './devices.ts';
import type { Flushed, GuestArguments, WriterArguments } from './messages.ts';
import { verifyDisk, writeGeneration } from './numbered-disk.ts';

const BATCH_MAX = 8;
const FRAMES_PER_BATCH = 16;

/** Checks what its predecessors left, then writes, flushes and says so, with frames on the wire meanwhile, until it is killed. */
export async function runWriter(domain: Domain, { bus, args }: GuestArguments): Promise<void> {
  const { seed, acknowledged } = args as WriterArguments;
  const { aio } = domain;
  const store = connectOwnXenstore(domain);
  const links = await connectDevices(domain, store, bus);
  const disk = await createBlkDriver(links.byType.get(VIRTIO_ID_BLOCK)!, { aio });
  const net = await createNetDriver(links.byType.get(VIRTIO_ID_NET)!, { aio });
  const highest = await verifyDisk(disk, acknowledged);
  domain.console({ kind: 'verified' });
  const prng = createPrng(seed);
  const stop = new AbortController();
  const write = async (): Promise<void> => {
    for (let from = highest + 1; !stop.signal.aborted;) {
      const to = from + prng.below(BATCH_MAX);
      const generations = Array.from({ length: to - from + 1 }, (_, index) => from + index);
      sendFrames(net);
      await Promise.all(generations.map((generation) => writeGeneration(disk, generation)));
      await disk.flush();
      domain.console({ kind: 'flushed', from, to } satisfies Flushed);
      from = to + 1;
    }
  };
  const writing = write();
  const leave = async (): Promise<void> => {
    stop.abort();
    await writing;
    await disk.close();
    await net.close();
    await links[Symbol.asyncDispose]();
    store.close();
    domain.console({ kind: 'leaks', leaks: domain.leaks() });
    await domain.shutdown('poweroff');
  };
  await onShutdownRequest(store, domain.id, () => void leave());
}

/** As many as fit; nobody here waits for the echoes. */
export function sendFrames(net: NetDriver): void {
  const frame = new Uint8Array(200);
  frame.set(STATION_MAC, 0);
  frame.set(net.mac, 6);
  frame.set([0x88, 0xb5], 12);
  for (let count = 0; count < FRAMES_PER_BATCH && net.send(frame); count += 1);
  net.kick();
}
