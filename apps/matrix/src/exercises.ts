import type { AioContext } from '@virtlab/aio';
import type { FeatureBits } from '@virtlab/abi/brands';
import type { DriverLink } from '@virtlab/virtio';
import { createBlkDriver } from '@virtlab/virtio-blk';
import { createNetDriver } from '@virtlab/virtio-net';
import { createRngDriver } from '@virtlab/virtio-rng';
import { DISK_SECTORS, DISK_SERIAL, FRAME_SIZES, MAC, PEER_MAC, randomByteAt } from './fixtures.ts';

/** The devices of the grid. */
export const DEVICES = ['rng', 'blk', 'net'] as const;
export type DeviceName = (typeof DEVICES)[number];

/** Drives one device through its link and throws, naming it, at the first thing that is not as it should be. */
export type Exercise = (link: DriverLink, aio: AioContext, ringFeatures: FeatureBits) => Promise<void>;

/** The same driver code whatever the link is: this table is what the grid is about. */
export const EXERCISES: { readonly [Name in DeviceName]: Exercise } = {
  rng: exerciseRng,
  blk: exerciseBlk,
  net: exerciseNet,
};

const SECTOR_SIZE = 512;

/** How far the sequence of a device has been drawn by those before. */
const drawn = new WeakMap<DriverLink, number>();

async function exerciseRng(link: DriverLink, aio: AioContext, ringFeatures: FeatureBits): Promise<void> {
  const driver = await createRngDriver(link, { aio, ringFeatures });
  let at = drawn.get(link) ?? 0;
  for (const size of [1, 7, 512, 4096, 4097, 60_000]) {
    const bytes = new Uint8Array(size);
    for (let filled = 0; filled < size;) filled += await driver.read(bytes.subarray(filled));
    const wrong = bytes.findIndex((byte, index) => byte !== randomByteAt(at + index));
    if (wrong >= 0)
      throw new Error(
        `Byte ${wrong} of ${size} is ${bytes[wrong]}, the source gave ${randomByteAt(at + wrong)}`,
      );
    at += size;
  }
  drawn.set(link, at);
  await driver.stop();
}

async function exerciseBlk(link: DriverLink, aio: AioContext, ringFeatures: FeatureBits): Promise<void> {
  const disk = await createBlkDriver(link, { aio, ringFeatures });
  equal('capacity', disk.capacitySectors, DISK_SECTORS);
  equal('serial', await disk.getId(), DISK_SERIAL);
  const sizes = [1, 2, 7, 8, 9, 64, 300];
  await Promise.all(sizes.map((count, index) => disk.write(index * 512, pattern(index + 1, count))));
  await disk.flush();
  for (const [index, count] of sizes.entries()) {
    const read = new Uint8Array(count * SECTOR_SIZE);
    await disk.read(index * 512, read);
    equalBytes(`${count} sectors`, read, pattern(index + 1, count));
  }
  await disk.writeZeroes(2, 3);
  const zeroed = new Uint8Array(8 * SECTOR_SIZE);
  await disk.read(0, zeroed);
  equalBytes(
    'write zeroes',
    zeroed.subarray(2 * SECTOR_SIZE, 5 * SECTOR_SIZE),
    new Uint8Array(3 * SECTOR_SIZE),
  );
  await disk.discard(512, 16);
  await rejects('a read beyond the end', disk.read(DISK_SECTORS, new Uint8Array(SECTOR_SIZE)));
  const last = pattern(99, 1);
  await disk.write(DISK_SECTORS - 1, last);
  await disk.read(DISK_SECTORS - 1, zeroed.subarray(0, SECTOR_SIZE));
  equalBytes('the last sector', zeroed.subarray(0, SECTOR_SIZE), last);
  await disk.close();
}

/** The peer echoes every frame with the addresses swapped. */
async function exerciseNet(link: DriverLink, aio: AioContext, ringFeatures: FeatureBits): Promise<void> {
  const net = await createNetDriver(link, { aio, ringFeatures });
  equalBytes('MAC', net.mac, MAC);
  const echoes: Uint8Array[] = [];
  let arrived: (() => void) | undefined;
  net.onFrame((frame) => {
    echoes.push(frame.slice());
    arrived?.();
  });
  const sent: Uint8Array[] = [];
  for (let lap = 0; lap < 40; lap += 1) {
    for (const size of FRAME_SIZES) {
      const frame = echoFrame(size, lap);
      if (!net.send(frame)) throw new Error(`No room for frame ${sent.length}`);
      sent.push(frame);
    }
    net.kick();
    while (echoes.length < sent.length) {
      await new Promise<void>((resolve) => {
        arrived = resolve;
      });
    }
  }
  for (const [index, frame] of sent.entries()) {
    const echo = echoes[index]!;
    equal(`size of echo ${index}`, echo.length, frame.length);
    equalBytes(`destination of echo ${index}`, echo.subarray(0, 6), MAC);
    equalBytes(`payload of echo ${index}`, echo.subarray(12), frame.subarray(12));
  }
  await net.close();
}

function echoFrame(size: number, lap: number): Uint8Array {
  const frame = Uint8Array.from({ length: size }, (_value, index) => (index * 13 + lap) & 0xff);
  frame.set(PEER_MAC, 0);
  frame.set(MAC, 6);
  frame.set([0x88, 0xb5], 12); // IEEE 802 local experimental
  return frame;
}

function pattern(seed: number, sectorCount: number): Uint8Array {
  return Uint8Array.from(
    { length: sectorCount * SECTOR_SIZE },
    (_value, index) => (index * 31 + seed * 17) & 0xff,
  );
}

function equal<T>(what: string, found: T, expected: T): void {
  if (found !== expected) throw new Error(`${what} is ${String(found)}, not ${String(expected)}`);
}

function equalBytes(what: string, found: Uint8Array, expected: Uint8Array): void {
  equal(`size of ${what}`, found.length, expected.length);
  const wrong = found.findIndex((byte, index) => byte !== expected[index]);
  if (wrong >= 0) throw new Error(`Byte ${wrong} of ${what} is ${found[wrong]}, not ${expected[wrong]}`);
}

async function rejects(what: string, promise: Promise<unknown>): Promise<void> {
  try {
    await promise;
  } catch {
    return;
  }
  throw new Error(`${what} did not fail`);
}
