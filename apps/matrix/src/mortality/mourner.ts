import { VIRTIO_ID_BLOCK, VIRTIO_ID_NET, VIRTIO_ID_RNG } from '@virtlab/abi/virtio';
import { type DeviceLinks, type Domain, connectDevices, connectOwnXenstore } from '@virtlab/domain';
import { type BlkDriver, createBlkDriver } from '@virtlab/virtio-blk';
import { type NetDriver, createNetDriver } from '@virtlab/virtio-net';
import { type RngDriver, createRngDriver } from '@virtlab/virtio-rng';
import type { Xenstore } from '@virtlab/xenstore';
import { STATION_MAC } from './devices.ts';
import type { DomURequest, Ending, GuestArguments, MournerArguments } from './messages.ts';

interface Held {
  readonly links: DeviceLinks;
  readonly disk: BlkDriver;
  readonly net: NetDriver;
  readonly rng: RngDriver;
}

/** Keeps every kind of operation in flight, and tells how each ended when domain 0 is no more. */
export async function runMourner(domain: Domain, guest: GuestArguments): Promise<void> {
  const { onlyBounded } = guest.args as MournerArguments;
  const store = connectOwnXenstore(domain);
  const connecting = connect(domain, store, guest);
  let endings: Promise<Ending>[] = [];
  domain.connection.onRequest(async (message) => {
    if ((message as DomURequest).op === 'endings') return await Promise.all(endings);
    await bury(await connecting.catch(() => undefined), store);
    return domain.leaks();
  });
  let held: Held;
  try {
    held = await connecting;
  } catch (error) {
    endings = [
      Promise.resolve(ending('connecting', 0, error)),
      ...(onlyBounded ? [] : [repeat('xenstore', ask(store))]),
    ];
    return;
  }
  endings = onlyBounded
    ? boundedOperations(held)
    : [...boundedOperations(held), ...unboundedOperations(held, store)];
}

async function connect(domain: Domain, store: Xenstore, { bus, args }: GuestArguments): Promise<Held> {
  const { timeoutMs } = args as MournerArguments;
  const { aio } = domain;
  const links = await connectDevices(domain, store, bus, { timeoutMs });
  const linkOf = (type: number): Parameters<typeof createRngDriver>[0] => {
    const link = links.byType.get(type);
    if (link === undefined) throw new Error(`There is no device of type ${type}`);
    return link;
  };
  try {
    const disk = await createBlkDriver(linkOf(VIRTIO_ID_BLOCK), { aio, timeoutMs });
    const net = await createNetDriver(linkOf(VIRTIO_ID_NET), { aio });
    const rng = await createRngDriver(linkOf(VIRTIO_ID_RNG), { aio });
    return { links, disk, net, rng };
  } catch (error) {
    await links[Symbol.asyncDispose]();
    throw error;
  }
}

/** Those with a deadline of their own. */
function boundedOperations({ links, disk }: Held): Promise<Ending>[] {
  const sectors = new Uint8Array(8 * 512);
  const { transport } = links.byType.get(VIRTIO_ID_RNG)!;
  return [
    repeat('disk', async (count) => {
      await disk.write(64 + (count % 64) * 8, sectors);
      await disk.read(64 + (count % 64) * 8, sectors);
    }),
    repeat('control', async () => await transport.writeStatus(await transport.readStatus())),
  ];
}

function unboundedOperations({ disk, net, rng }: Held, store: Xenstore): Promise<Ending>[] {
  return [
    repeat('a read that the device holds', () => disk.read(0, new Uint8Array(512))),
    repeat('entropy', async () => void (await rng.read(new Uint8Array(64)))),
    repeat('frames', frameRound(net)),
    repeat('xenstore', ask(store)),
    repeat('the connection to xenstore', async () => {
      throw new Error((await store.closed) ?? 'closed by its owner');
    }),
  ];
}

function ask(store: Xenstore): () => Promise<void> {
  return async () => void (await store.readText('name'));
}

/** Frames until the ring is full, then what the driver says next. */
function frameRound(net: NetDriver): () => Promise<void> {
  const frame = new Uint8Array(300);
  frame.set(STATION_MAC, 0);
  frame.set(net.mac, 6);
  frame.set([0x88, 0xb5], 12);
  return async () => {
    const writable = Promise.withResolvers<void>();
    net.onWritable(() => writable.resolve());
    while (net.send(frame));
    await writable.promise;
  };
}

async function repeat(operation: string, run: (count: number) => Promise<void>): Promise<Ending> {
  for (let count = 0; ; count += 1) {
    try {
      await run(count);
    } catch (error) {
      return ending(operation, count, error);
    }
  }
}

function ending(operation: string, successes: number, error: unknown): Ending {
  if (!(error instanceof Error)) throw error;
  const code = 'code' in error ? String(error.code) : '';
  return { operation, successes, name: error.name, code, message: error.message };
}

async function bury(held: Held | undefined, store: Xenstore): Promise<void> {
  if (held !== undefined) {
    await held.disk.close();
    await held.net.close();
    await held.rng.stop();
    await held.links[Symbol.asyncDispose]();
  }
  store.close();
}
