/**
 * What a request of 4 KiB costs from driver to backend and back, both sides in one thread over the memory transport. Run with
 * `node --conditions=@virtlab/source packages/virtio-blk/src/blk.bench.ts`.
 *
 * Each group is one comparison: its rows differ in one thing and take turns, run by run. Medians.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED, featureBits } from '@virtlab/abi/virtio';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import { createAioContext } from '@virtlab/aio';
import { memoryRegion } from '@virtlab/guest-memory';
import { DeviceHost } from '@virtlab/virtio';
import { createMemoryTransport } from '@virtlab/virtio/memory';
import type { BlockBackend } from './backend.ts';
import type { BlkDeviceOptions } from './device-options.ts';
import { createBlkDevice } from './device.ts';
import type { BlkDriver } from './driver-contract.ts';
import type { BlkDriverOptions } from './driver-options.ts';
import { createBlkDriver } from './driver.ts';
import { createMemoryBackend } from './memory-backend.ts';
import { openRawFileBackend } from './node/raw-file-backend.ts';
import { createNullBackend } from './null-backend.ts';

const SIZE = 4096;
const SECTORS = SIZE / 512;
const RUNS = 9;
const DISK_SIZE = 64 << 20;
const NULL_CAPACITY = DISK_SIZE / 512;

interface Row {
  readonly name: string;
  readonly backend: () => BlockBackend | Promise<BlockBackend>;
  readonly depth: number;
  readonly order?: 'random' | 'sequential';
  readonly kind?: 'read' | 'write';
  /** Requests of a batch lie one behind the other in memory, or each two pages apart. */
  readonly isScattered?: boolean;
  readonly device?: Omit<BlkDeviceOptions, 'backend'>;
  readonly driver?: Omit<BlkDriverOptions, 'aio'>;
  readonly requests?: number;
}

interface Bench {
  readonly row: Row;
  run(): Promise<number>;
  close(): Promise<void>;
  describe(): string;
}

/** Requests all over the disk or one after the other, `depth` in flight. */
async function runAll(disk: BlkDriver, row: Row, buffer: number, requests: number): Promise<void> {
  const { depth, order = 'random', kind = 'read', isScattered = false } = row;
  const blocks = disk.capacitySectors / SECTORS;
  const stride = isScattered ? 2 * SIZE : SIZE;
  const done = Promise.withResolvers<void>();
  let begun = 0;
  let ended = 0;
  const submit = (token: number): void => {
    const sector = ((order === 'random' ? begun * 7919 : begun) % blocks) * SECTORS;
    begun += 1;
    const offset = buffer + token * stride;
    const result =
      kind === 'read'
        ? disk.submitRead(sector, offset, SIZE, token)
        : disk.submitWrite(sector, offset, SIZE, token);
    if (result !== 0) done.reject(new Error('ring full'));
  };
  disk.onCompletion((token, completion) => {
    ended += 1;
    if (completion !== 0) done.reject(new Error(`completion ${completion}`));
    if (begun < requests) submit(token);
    else if (ended === requests) done.resolve();
  });
  for (let token = 0; token < depth; token += 1) submit(token);
  disk.kick();
  await done.promise;
}

async function prepare(row: Row): Promise<Bench> {
  const requests = row.requests ?? 50_000;
  const aio = createAioContext();
  const backend = await row.backend();
  const device = createBlkDevice({ backend, ...row.device });
  const host = new DeviceHost({ device, aio });
  const memory = memoryRegion(new ArrayBuffer(16 << 20));
  const machine = createMemoryTransport({ host, memory, deviceAio: aio, driverAio: aio });
  const disk = await createBlkDriver(machine.link, { aio, ...row.driver });
  const buffer = disk.allocateBuffer(row.depth * 2 * SIZE);
  return {
    row,
    run: async () => {
      const start = performance.now();
      await runAll(disk, row, buffer, requests);
      return ((performance.now() - start) * 1e6) / requests;
    },
    describe: () => {
      const { requests: all, kicks, calls } = disk.statistics;
      const { merged } = device.statistics;
      const merging = merged === 0 ? '' : `, ${(all / (all - merged)).toFixed(1)} requests an operation`;
      return `${(kicks / all).toFixed(3)} kicks, ${(calls / all).toFixed(3)} calls${merging}`;
    },
    close: async () => {
      await disk.close();
      await machine.close();
      await backend.close();
      aio[Symbol.dispose]();
    },
  };
}

async function compare(title: string, rows: readonly Row[]): Promise<void> {
  const benches: Bench[] = [];
  for (const row of rows) benches.push(await prepare(row));
  const times = benches.map((): number[] => []);
  for (let run = 0; run <= RUNS; run += 1) {
    for (const [index, bench] of benches.entries()) {
      const time = await bench.run();
      if (run > 0) times[index]!.push(time);
    }
  }
  console.log(title);
  const medians = times.map((each) => each.toSorted((a, b) => a - b)[(RUNS - 1) / 2]!);
  for (const [index, bench] of benches.entries()) {
    const ratio = index === 0 ? '' : ` (x${(medians[0]! / medians[index]!).toFixed(2)})`;
    console.log(
      `  ${bench.row.name}: ${medians[index]!.toFixed(0)} ns a request${ratio}, ${bench.describe()}`,
    );
    await bench.close();
  }
}

const none = (): BlockBackend => createNullBackend({ capacitySectors: NULL_CAPACITY });
const memory = (): BlockBackend => createMemoryBackend({ contents: DISK_SIZE });
const ring = (...features: number[]): { readonly ringFeatures: FeatureBits } => ({
  ringFeatures: featureBits(...features),
});
const [INDIRECT, EVENT_IDX] = [VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_RING_F_EVENT_IDX];

const folder = mkdtempSync(join(tmpdir(), 'virtio-blk-bench-'));
const path = join(folder, 'disk.img');
writeFileSync(path, new Uint8Array(DISK_SIZE).fill(0xa5));
const file = async (): Promise<BlockBackend> => await openRawFileBackend({ path });

for (const depth of [1, 32, 128]) {
  await compare(`random reads, ${depth} in flight`, [
    { name: 'null', backend: none, depth },
    { name: 'memory', backend: memory, depth },
  ]);
}

await compare('ring features, null backend, 32 in flight', [
  { name: 'indirect, event index', backend: none, depth: 32, driver: ring(INDIRECT, EVENT_IDX) },
  { name: 'direct, event index', backend: none, depth: 32, driver: ring(EVENT_IDX) },
  { name: 'indirect, flags only', backend: none, depth: 32, driver: ring(INDIRECT) },
  {
    name: 'packed, indirect, event index',
    backend: none,
    depth: 32,
    driver: ring(INDIRECT, EVENT_IDX, VIRTIO_F_RING_PACKED),
  },
  {
    name: 'packed, in order, indirect, event index',
    backend: none,
    depth: 32,
    driver: ring(INDIRECT, EVENT_IDX, VIRTIO_F_RING_PACKED, VIRTIO_F_IN_ORDER),
  },
]);

await compare(
  'queues, null backend, 128 in flight',
  [1, 2, 4].map((queueCount) => ({
    name: `${queueCount} of ${queueCount}`,
    backend: none,
    depth: 128,
    device: { queueCount },
    driver: { queueCount },
  })),
);

for (const kind of ['read', 'write'] as const) {
  for (const isScattered of [false, true]) {
    const row = {
      backend: file,
      depth: 32,
      order: 'sequential',
      kind,
      isScattered,
      requests: 20_000,
    } as const;
    await compare(
      `raw file, sequential ${kind}s, 32 in flight, buffers ${isScattered ? 'scattered' : 'in a row'}`,
      [
        { ...row, name: 'merging off', device: { mergeCountMax: 1 } },
        { ...row, name: 'merging on' },
      ],
    );
  }
}
await compare('raw file, random reads, 32 in flight', [
  { name: 'merging off', backend: file, depth: 32, device: { mergeCountMax: 1 }, requests: 20_000 },
  { name: 'merging on', backend: file, depth: 32, requests: 20_000 },
]);
await compare('publish period, raw file, random reads, 32 in flight', [
  { name: '2', backend: file, depth: 32, requests: 20_000 },
  { name: '16', backend: file, depth: 32, requests: 20_000, device: { publishPeriod: 16 } },
]);

rmSync(folder, { recursive: true });
