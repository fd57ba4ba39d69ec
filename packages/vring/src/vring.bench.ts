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

/** The time of one iteration divided by 20,000 is what a request costs. */
test(`${REQUESTS} requests in one thread`, async ({ bench }) => {
  const rings = {
    'device half, raw driver, 1 buffer': cycle({ bufferCount: 1, rawDriver: true }),
    'device half, raw driver, 3 buffers': cycle({ bufferCount: 3, rawDriver: true }),
    'both halves, 1 buffer': cycle({ bufferCount: 1 }),
    'both halves, 3 buffers': cycle({ bufferCount: 3 }),
    'both halves, 3 buffers, indirect': cycle({
      bufferCount: 3,
      features: { indirect: true, eventIdx: true },
    }),
    'both halves, 1 buffer, batches of 1': cycle({ bufferCount: 1, batchCount: 1 }),
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
