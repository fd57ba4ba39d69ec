import { IdentityDeviceMemory, IdentityDmaMapper, memoryRegion } from '@virtlab/guest-memory';
import { expect, test } from 'vitest';
import { RingCycle, type RingCycleOptions } from './testing.ts';

const REQUESTS = 20_000;

function cycle(options: Omit<RingCycleOptions, 'dma' | 'memory'>): RingCycle {
  const region = memoryRegion(new ArrayBuffer(1 << 22));
  const dma = new IdentityDmaMapper(region);
  const memory = new IdentityDeviceMemory([{ guestAddress: 0n, region }]);
  return new RingCycle({ features: { indirect: false, eventIdx: true }, ...options, dma, memory });
}

const SPLIT = { indirect: false, eventIdx: true, packed: false };
const PACKED = { indirect: false, eventIdx: true, packed: true };

function bothHalves(features: typeof SPLIT & { readonly inOrder: boolean }): [string, RingCycle][] {
  const name = `${features.packed ? ', packed' : ''}${features.inOrder ? ', in order' : ''}`;
  return [
    [`both halves, 1 buffer${name}`, cycle({ bufferCount: 1, features })],
    [`both halves, 3 buffers${name}`, cycle({ bufferCount: 3, features })],
    [
      `both halves, 3 buffers, indirect${name}`,
      cycle({ bufferCount: 3, features: { ...features, indirect: true } }),
    ],
  ];
}

/** The time of one iteration divided by 20,000 is what a request costs. */
test(`${REQUESTS} requests in one thread`, async ({ bench }) => {
  const rings = {
    'device half, raw driver, 1 buffer': cycle({ bufferCount: 1, rawDriver: true }),
    'device half, raw driver, 3 buffers': cycle({ bufferCount: 3, rawDriver: true }),
    'device half, raw driver, 1 buffer, packed': cycle({ bufferCount: 1, rawDriver: true, features: PACKED }),
    'device half, raw driver, 3 buffers, packed': cycle({
      bufferCount: 3,
      rawDriver: true,
      features: PACKED,
    }),
    ...Object.fromEntries(
      [SPLIT, PACKED].flatMap((format) =>
        [false, true].flatMap((inOrder) => bothHalves({ ...format, inOrder })),
      ),
    ),
    'both halves, 1 buffer, batches of 1': cycle({ bufferCount: 1, batchCount: 1 }),
    'both halves, 1 buffer, batches of 1, packed': cycle({
      bufferCount: 1,
      batchCount: 1,
      features: PACKED,
    }),
  };
  const results = await bench.compare(
    ...Object.entries(rings).map(([name, ring]) =>
      bench(name, () => {
        ring.run(REQUESTS);
      }),
    ),
  );
  expect(results).toBeDefined();
});
