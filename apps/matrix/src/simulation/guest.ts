import { VIRTIO_ID_BLOCK, VIRTIO_ID_NET, VIRTIO_ID_RNG } from '@virtlab/abi/virtio';
import type { AioContext, Prng } from '@virtlab/aio';
import { type DeviceBus, type DeviceLinks, connectDevices } from '@virtlab/domain';
import type { LocalGuest } from '@virtlab/domain/testing';
import { type BlkDriver, createBlkDriver } from '@virtlab/virtio-blk';
import { type NetDriver, createNetDriver } from '@virtlab/virtio-net';
import { type RngDriver, createRngDriver } from '@virtlab/virtio-rng';
import { PEER_MAC } from '../fixtures.ts';
import { blockOf, verifyDisk, writeGeneration } from '../mortality/numbered-disk.ts';

const WRITES_MAX = 6;

export interface GuestWork {
  readonly bus: DeviceBus;
  readonly prng: Prng;
  /** By block: the generation that a flush has made durable. Written as flushes return, also to those that come after. */
  readonly acknowledged: number[];
  readonly batchCount: number;
}

interface Drivers {
  readonly aio: AioContext;
  readonly links: DeviceLinks;
  readonly disk: BlkDriver;
  readonly net: NetDriver;
  readonly rng: RngDriver;
}

/**
 * Checks the disk, then writes, flushes, echoes and draws, batch after batch, checking every answer. Resolves when all batches
 * are done and the devices are closed, to what the domain still holds; rejects with the first error.
 */
export async function runGuest({ domain, store }: LocalGuest, work: GuestWork): Promise<readonly string[]> {
  const { aio } = domain;
  const links = await connectDevices(domain, store, work.bus);
  const drivers: Drivers = {
    aio,
    links,
    disk: await createBlkDriver(links.byType.get(VIRTIO_ID_BLOCK)!, { aio }),
    net: await createNetDriver(links.byType.get(VIRTIO_ID_NET)!, { aio }),
    rng: await createRngDriver(links.byType.get(VIRTIO_ID_RNG)!, { aio }),
  };
  try {
    await runBatches(drivers, work);
  } finally {
    await close(drivers);
  }
  return domain.leaks();
}

async function runBatches(drivers: Drivers, { acknowledged, prng, batchCount }: GuestWork): Promise<void> {
  const { disk, rng } = drivers;
  let generation = (await verifyDisk(disk, acknowledged)) + 1;
  for (let batch = 0; batch < batchCount; batch += 1) {
    const count = 1 + prng.below(WRITES_MAX);
    const generations = Array.from({ length: count }, (_, index) => generation + index);
    await Promise.all([
      ...generations.map((each) => writeGeneration(disk, each)),
      echo(drivers.net, drivers.aio, 60 + prng.below(1400)),
      rng.read(new Uint8Array(1 + prng.below(64))),
    ]);
    await disk.flush();
    for (const each of generations) acknowledged[blockOf(each)] = each;
    generation += count;
  }
  await verifyDisk(disk, acknowledged);
}

/** How often a guest that waits for a frame asks whether its card still works. */
const CARD_CHECK_MS = 20;

/** One frame to the station and back. */
async function echo(net: NetDriver, aio: AioContext, size: number): Promise<void> {
  const frame = Uint8Array.from({ length: size }, (_, at) => (at * 7 + size) & 0xff);
  frame.set(PEER_MAC, 0);
  frame.set(net.mac, 6);
  frame.set([0x88, 0xb5], 12); // IEEE 802 local experimental
  const back = Promise.withResolvers<Uint8Array>();
  net.onFrame((received) => {
    // The switch floods what it has not learned yet: frames of others come along.
    if (net.mac.every((byte, at) => received[at] === byte)) back.resolve(received.slice());
  });
  const check = aio.createTimer(() => {
    if (net.failure === undefined) check.arm(CARD_CHECK_MS);
    else back.reject(new Error(`ENODEV: ${net.failure}`));
  });
  check.arm(CARD_CHECK_MS);
  if (!net.send(frame)) throw new Error('No room for one frame');
  net.kick();
  const received = await back.promise.finally(() => check[Symbol.dispose]());
  const wrong = frame.findIndex((byte, at) => at >= 12 && received[at] !== byte);
  if (received.length !== size || wrong >= 0) {
    throw new Error(`An echo of ${size} bytes has ${received.length}, the first wrong one at ${wrong}`);
  }
}

/** Whatever happened: also to devices that are gone. */
async function close({ links, disk, net, rng }: Drivers): Promise<void> {
  await Promise.allSettled([disk.close(), net.close(), rng.stop()]);
  await links[Symbol.asyncDispose]();
}
