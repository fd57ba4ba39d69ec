/**
 * Prints 4 KiB random reads of our driver on qemu-storage-daemon and on our device role: IOPS, and kicks and calls for each
 * request. `node --conditions=@virtlab/source measure.ts [seconds]`.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import { VIRTIO_ID_BLOCK } from '@virtlab/abi/virtio';
import { createPrng } from '@virtlab/aio';
import { createNodeAioContext } from '@virtlab/aio/node';
import { connectVhostUser } from '@virtlab/vhost-user';
import { StorageDaemon } from '@virtlab/vhost-user/testing';
import { createBlkDriver } from '@virtlab/virtio-blk';
import { DeviceProcess } from './device-process.ts';

const SECONDS = Number(process.argv[2] ?? 1);
const DISK_SIZE = 64 << 20;
const BLOCK_SIZE = 4096;
const BLOCK_COUNT = DISK_SIZE / BLOCK_SIZE;
const DEPTHS = [1, 32, 64];
const MEDIAN_OF = 3;

async function measure(path: string, depth: number): Promise<readonly [number, number, number]> {
  const aio = createNodeAioContext();
  await using link = await connectVhostUser({ path, aio, deviceType: VIRTIO_ID_BLOCK, memorySize: 8 << 20 });
  await using driver = await createBlkDriver(link, { aio, queueDepth: depth });
  const prng = createPrng(1);
  const buffers = driver.allocateBuffer(depth * BLOCK_SIZE);
  const { promise, resolve } = Promise.withResolvers<void>();
  let [count, endAt, inFlight] = [0, Infinity, 0];
  const submit = (slot: number): void => {
    const sector = (prng.next() % BLOCK_COUNT) * (BLOCK_SIZE / VIRTIO_BLK_SECTOR_SIZE);
    inFlight += 1;
    driver.submitRead(sector, buffers + slot * BLOCK_SIZE, BLOCK_SIZE, slot);
  };
  driver.onCompletion((slot, completion) => {
    if (completion !== 0) throw new Error(`A request ended with ${completion}`);
    count += 1;
    inFlight -= 1;
    if ((count & 63) !== 0 || performance.now() < endAt) submit(slot);
    else endAt = 0;
    if (inFlight === 0) resolve();
  });
  const startedAt = performance.now();
  endAt = startedAt + SECONDS * 1000;
  for (let slot = 0; slot < depth; slot += 1) submit(slot);
  driver.kick();
  await promise;
  const { kicks, calls } = driver.statistics;
  const result = [(count / (performance.now() - startedAt)) * 1000, kicks / count, calls / count] as const;
  driver.freeBuffer(buffers);
  return result;
}

async function report(name: string, path: string): Promise<void> {
  for (const depth of DEPTHS) {
    const runs: (readonly [number, number, number])[] = [];
    for (let run = 0; run < MEDIAN_OF; run += 1) runs.push(await measure(path, depth));
    const [iops, kicks, calls] = runs.toSorted(([a], [b]) => a - b)[MEDIAN_OF >>> 1]!;
    const each = `${kicks.toFixed(4)} kicks, ${calls.toFixed(4)} calls each`;
    console.log(`${name.padEnd(34)} depth ${String(depth).padStart(2)}: ${Math.round(iops)} IOPS, ${each}`);
  }
}

const place = mkdtempSync('/dev/shm/virtlab-measure-');
const [file, path] = [join(place, 'disk.raw'), join(place, 'blk.sock')];
writeFileSync(file, new Uint8Array(DISK_SIZE).fill(1));
const sectors = String(DISK_SIZE / VIRTIO_BLK_SECTOR_SIZE);
const contenders: readonly (readonly [string, () => Promise<{ kill(): Promise<void> }>])[] = [
  ['qsd null-co', () => StorageDaemon.start({ blockdev: `driver=null-co,size=${DISK_SIZE}`, path })],
  ['qsd raw file on tmpfs (threads)', () => StorageDaemon.startOnFile(file, { path })],
  ['our device role, null', () => DeviceProcess.start('null', sectors, path)],
  ['our device role, memory', () => DeviceProcess.start('memory', sectors, path)],
  ['our device role, raw file on tmpfs', () => DeviceProcess.start('blk', file, path)],
];
for (const [name, start] of contenders) {
  const device = await start();
  await report(name, path);
  await device.kill();
}
rmSync(place, { recursive: true });
