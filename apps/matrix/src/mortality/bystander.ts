import { VIRTIO_ID_BLOCK, VIRTIO_ID_NET, VIRTIO_ID_RNG } from '@virtlab/abi/virtio';
import { type Domain, connectDevices, connectOwnXenstore, onShutdownRequest } from '@virtlab/domain';
import { type BlkDriver, createBlkDriver } from '@virtlab/virtio-blk';
import { type NetDriver, createNetDriver } from '@virtlab/virtio-net';
import { type RngDriver, createRngDriver } from '@virtlab/virtio-rng';
import { STATION_MAC } from './devices.ts';
import { pause } from './pause.ts';
import type { BystanderStatus, GuestArguments } from './messages.ts';

const SECTOR_SIZE = 512;
const SLOT_SECTORS = 16;
const SLOT_COUNT = 64;
const PAUSE_MS = 1;

/** Whatever happens to others, this domain works, and checks every byte: one that is wrong is its panic. */
export async function runBystander(domain: Domain, { bus }: GuestArguments): Promise<void> {
  const { aio, connection } = domain;
  const store = connectOwnXenstore(domain);
  const links = await connectDevices(domain, store, bus);
  const linkOf = (type: number): Parameters<typeof createRngDriver>[0] => links.byType.get(type)!;
  const disk = await createBlkDriver(linkOf(VIRTIO_ID_BLOCK), { aio });
  const net = await createNetDriver(linkOf(VIRTIO_ID_NET), { aio });
  const rng = await createRngDriver(linkOf(VIRTIO_ID_RNG), { aio });
  const rounds = { blk: 0, net: 0, rng: 0 };
  const stop = new AbortController();
  const loop = async (name: keyof typeof rounds, round: (count: number) => Promise<void>): Promise<void> => {
    while (!stop.signal.aborted) {
      await round(rounds[name]);
      rounds[name] += 1;
      await pause(aio, PAUSE_MS); // the machine has others to run
    }
  };
  const work = [
    loop('blk', (count) => checkDisk(disk, count)),
    loop('net', echoRound(net)),
    loop('rng', () => checkEntropy(rng)),
  ];
  connection.onRequest((): BystanderStatus => ({ ...rounds }));
  const leave = async (): Promise<void> => {
    stop.abort();
    await Promise.all(work);
    await disk.close();
    await net.close();
    await rng.stop();
    await links[Symbol.asyncDispose]();
    store.close();
    domain.console({ kind: 'leaks', leaks: domain.leaks() });
    await domain.shutdown('poweroff');
  };
  await onShutdownRequest(store, domain.id, () => void leave());
}

async function checkDisk(disk: BlkDriver, count: number): Promise<void> {
  const sector = (count % SLOT_COUNT) * SLOT_SECTORS;
  const written = Uint8Array.from({ length: SLOT_SECTORS * SECTOR_SIZE }, (_, at) => (at * 7 + count) & 0xff);
  await disk.write(sector, written);
  const read = new Uint8Array(written.length);
  await disk.read(sector, read);
  const wrong = read.findIndex((byte, at) => byte !== written[at]);
  if (wrong >= 0) throw new Error(`Byte ${wrong} of round ${count} is ${read[wrong]}, not ${written[wrong]}`);
}

/** One frame to the station and its echo. */
function echoRound(net: NetDriver): (count: number) => Promise<void> {
  let arrived: ((frame: Uint8Array) => void) | undefined;
  net.onFrame((frame) => arrived?.(frame.slice()));
  return async (count) => {
    const frame = Uint8Array.from({ length: 60 + (count % 1400) }, (_, at) => (at + count) & 0xff);
    frame.set(STATION_MAC, 0);
    frame.set(net.mac, 6);
    frame.set([0x88, 0xb5], 12); // IEEE 802 local experimental
    const echo = await new Promise<Uint8Array>((resolve) => {
      // A frame to an address that the switch does not know goes to all: those are not ours.
      arrived = (each) => {
        if (each.subarray(0, 6).every((byte, at) => byte === net.mac[at])) resolve(each);
      };
      if (!net.send(frame)) throw new Error('No room for one frame');
      net.kick();
    });
    const wrong = frame.findIndex((byte, at) => at >= 12 && byte !== echo[at]);
    if (echo.length !== frame.length || wrong >= 0) throw new Error(`Echo ${count} differs at byte ${wrong}`);
  };
}

async function checkEntropy(rng: RngDriver): Promise<void> {
  const bytes = new Uint8Array(256);
  const count = await rng.read(bytes);
  if (count === bytes.length && bytes.every((byte) => byte === 0))
    throw new Error('256 zeros are no entropy');
}
