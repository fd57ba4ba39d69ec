/**
 * What a read of 4 KiB costs from driver to backend and back, both sides in one thread over the memory transport. Run with
 * `node --conditions=@virtlab/source packages/virtio-blk/src/blk.bench.ts`.
 */
import { createAioContext } from '@virtlab/aio';
import { memoryRegion } from '@virtlab/guest-memory';
import { DeviceHost } from '@virtlab/virtio';
import { createMemoryTransport } from '@virtlab/virtio/memory';
import type { BlockBackend } from './backend.ts';
import { createBlkDevice } from './device.ts';
import type { BlkDriver } from './driver-contract.ts';
import { createBlkDriver } from './driver.ts';
import { createMemoryBackend } from './memory-backend.ts';
import { createNullBackend } from './null-backend.ts';

const SIZE = 4096;
const SECTORS = SIZE / 512;
const REQUESTS = 100_000;
const RUNS = 9;
const DISK_SIZE = 64 << 20;

/** Reads all over the disk, `depth` in flight. */
async function readAll(disk: BlkDriver, buffer: number, depth: number): Promise<void> {
  const blocks = disk.capacitySectors / SECTORS;
  const done = Promise.withResolvers<void>();
  let begun = 0;
  let ended = 0;
  const submit = (token: number): void => {
    const sector = ((begun * 7919) % blocks) * SECTORS;
    begun += 1;
    if (disk.submitRead(sector, buffer + token * SIZE, SIZE, token) !== 0)
      done.reject(new Error('ring full'));
  };
  disk.onCompletion((token, completion) => {
    ended += 1;
    if (completion !== 0) done.reject(new Error(`completion ${completion}`));
    if (begun < REQUESTS) submit(token);
    else if (ended === REQUESTS) done.resolve();
  });
  for (let token = 0; token < depth; token += 1) submit(token);
  disk.kick();
  await done.promise;
}

async function measure(name: string, backend: BlockBackend, depth: number): Promise<void> {
  using aio = createAioContext();
  const host = new DeviceHost({ device: createBlkDevice({ backend }), aio });
  const memory = memoryRegion(new ArrayBuffer(8 << 20));
  const machine = createMemoryTransport({ host, memory, deviceAio: aio, driverAio: aio });
  const disk = await createBlkDriver(machine.link, { aio });
  const buffer = disk.allocateBuffer(depth * SIZE);
  const times: number[] = [];
  for (let run = 0; run <= RUNS; run += 1) {
    const start = performance.now();
    await readAll(disk, buffer, depth);
    times.push(((performance.now() - start) * 1e6) / REQUESTS);
  }
  const median = times.slice(1).toSorted((a, b) => a - b)[(RUNS - 1) / 2]!;
  const { requests, kicks, calls } = disk.statistics;
  const doorbells = `${(kicks / requests).toFixed(3)} kicks, ${(calls / requests).toFixed(3)} calls`;
  console.log(`${name}, ${depth} in flight: ${median.toFixed(0)} ns a request, ${doorbells}`);
  await disk.close();
  await machine.close();
}

for (const depth of [1, 32, 128]) {
  await measure('null', createNullBackend({ capacitySectors: DISK_SIZE / 512 }), depth);
  await measure('memory', createMemoryBackend({ contents: DISK_SIZE }), depth);
}
