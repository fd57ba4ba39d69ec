import { IdentityDeviceMemory, IdentityDmaMapper, memoryRegion } from '@virtlab/guest-memory';
import {
  type DeviceQueue,
  type RingFeatures,
  createBufferList,
  createDeviceQueue,
  createDriverQueue,
} from '@virtlab/vring';
import { type Contender, type RunResult, timeNs } from '../contender.ts';
import { RawDriver, type RequestDriver } from './raw-driver.ts';
import { RawPackedDriver } from './raw-packed-driver.ts';
import { BUFFER_SIZE, ringLayout } from './ring-layout.ts';
import { BATCH_COUNT, RING_SIZE, type RequestShape } from './request-shape.ts';

const MEMORY_SIZE = 1 << 20;

/** Add, publish, pop, push, publish, pop used: both halves of our ring. */
export function bothHalves(
  words: string,
  { bufferCount, budgetNs }: RequestShape,
  features: RingFeatures,
): Contender {
  const region = memoryRegion(new ArrayBuffer(MEMORY_SIZE));
  const dma = new IdentityDmaMapper(region);
  const driver = createDriverQueue({ size: RING_SIZE, dma, features, bufferCountMax: bufferCount });
  const memory = new IdentityDeviceMemory([{ guestAddress: 0n, region }]);
  const device = requireQueue(createDeviceQueue({ addresses: driver.addresses, memory, features }));
  const payload = dma.allocateCoherent(bufferCount * BUFFER_SIZE);
  const buffers = createBufferList(bufferCount);
  buffers.addReadable(payload.offset, BUFFER_SIZE);
  for (let j = 1; j < bufferCount; j += 1) buffers.addWritable(payload.offset + j * BUFFER_SIZE, BUFFER_SIZE);
  let kicks = 0;
  let calls = 0;
  const batch = (): number => {
    for (let i = 0; i < BATCH_COUNT; i += 1) {
      if (driver.add(buffers, i) !== 0) throw new Error('The ring is full or broken');
    }
    if (driver.needsKick()) kicks += 1;
    serve(device);
    if (device.needsCall()) calls += 1;
    let count = 0;
    while (driver.popUsed() >= 0) count += 1;
    return count;
  };
  return {
    name: `virtlab, both halves, ${words}`,
    isPeer: false,
    budgetNs,
    run: (count) => {
      kicks = 0;
      calls = 0;
      return { ...runBatches(count, batch), doorbells: { kicks, calls } };
    },
  };
}

/** Our device half behind the raw driver. */
export function deviceHalf(
  words: string,
  { bufferCount, isIndirect, budgetNs }: RequestShape,
  features: RingFeatures,
): Contender {
  const layout = ringLayout(RING_SIZE, bufferCount, 0);
  const region = memoryRegion(new ArrayBuffer(layout.memorySize));
  const driver: RequestDriver =
    features.packed === true
      ? new RawPackedDriver(region, layout, bufferCount, isIndirect, features.eventIdx)
      : new RawDriver(region, layout, bufferCount, isIndirect);
  const device = requireQueue(
    createDeviceQueue({
      addresses: {
        size: RING_SIZE,
        descriptorArea: BigInt(layout.descriptors),
        driverArea: BigInt(layout.available),
        deviceArea: BigInt(layout.used),
      },
      memory: new IdentityDeviceMemory([{ guestAddress: 0n, region }]),
      features,
    }),
  );
  let calls = 0;
  const batch = (): number => {
    driver.offer(BATCH_COUNT);
    serve(device);
    if (device.needsCall()) calls += 1;
    return driver.collect();
  };
  return {
    name: `virtlab, device half, ${words}`,
    isPeer: false,
    budgetNs,
    run: (count) => {
      calls = 0;
      return { ...runBatches(count, batch), doorbells: { kicks: 0, calls } };
    },
  };
}

function serve(device: DeviceQueue): void {
  for (let chain = device.pop(); chain !== undefined; chain = device.pop()) {
    device.push(chain, chain.writableSize);
  }
  if (device.violation !== undefined) throw new Error(device.violation.message);
}

/** At least `count` requests in whole batches. Throws if one is lost. */
export function runBatches(count: number, batch: () => number): RunResult {
  let moved = 0;
  const elapsed = timeNs(() => {
    while (moved < count) {
      const returned = batch();
      if (returned !== BATCH_COUNT) throw new Error(`${BATCH_COUNT} requests went in, ${returned} came back`);
      moved += returned;
    }
  });
  return { operationCount: moved, elapsedNs: elapsed };
}

function requireQueue(result: ReturnType<typeof createDeviceQueue>): DeviceQueue {
  if (!result.ok) throw new Error(`Device queue refused: ${result.violation.message}`);
  return result.queue;
}
