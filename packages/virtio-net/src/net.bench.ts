/**
 * What a frame costs from one driver over the switch to another, all in one thread over the memory transport. Run with
 * `node --conditions=@virtlab/source packages/virtio-net/src/net.bench.ts`.
 */
import { type AioContext, createAioContext } from '@virtlab/aio';
import { memoryRegion } from '@virtlab/guest-memory';
import { DeviceHost } from '@virtlab/virtio';
import { type MemoryTransport, createMemoryTransport } from '@virtlab/virtio/memory';
import type { NetDriver } from './driver-contract.ts';
import { createNetDevice } from './device.ts';
import { createNetDriver } from './driver.ts';
import { type LearningSwitch, createLearningSwitch } from './learning-switch.ts';

const FRAMES = 100_000;
const RUNS = 9;
const BATCH = 64;

async function plug(
  network: LearningSwitch,
  aio: AioContext,
  last: number,
): Promise<{ driver: NetDriver; machine: MemoryTransport }> {
  const device = createNetDevice({
    mac: Uint8Array.of(2, 0, 0, 0, 0, last),
    port: network.addPort(`${last}`),
  });
  const host = new DeviceHost({ device, aio });
  const memory = memoryRegion(new ArrayBuffer(4 << 20));
  const machine = createMemoryTransport({ host, memory, deviceAio: aio, driverAio: aio });
  return { machine, driver: await createNetDriver(machine.link, { aio }) };
}

/** Sends in batches, each when the one before has arrived. */
async function stream(from: NetDriver, to: NetDriver, frame: Uint8Array): Promise<void> {
  const done = Promise.withResolvers<void>();
  let sent = 0;
  let received = 0;
  const sendBatch = (): void => {
    for (let index = 0; index < BATCH; index += 1) from.send(frame);
    sent += BATCH;
    from.kick();
  };
  to.onFrame(() => {
    received += 1;
    if (received < sent) return;
    if (received >= FRAMES) done.resolve();
    else sendBatch();
  });
  sendBatch();
  await done.promise;
}

async function measure(size: number): Promise<void> {
  using aio = createAioContext();
  const network = createLearningSwitch();
  const a = await plug(network, aio, 1);
  const b = await plug(network, aio, 2);
  b.driver.send(Uint8Array.of(...a.driver.mac, ...b.driver.mac, 8, 0));
  b.driver.kick();
  const frame = new Uint8Array(size);
  frame.set(b.driver.mac);
  frame.set(a.driver.mac, 6);
  const times: number[] = [];
  for (let run = 0; run <= RUNS; run += 1) {
    const start = performance.now();
    await stream(a.driver, b.driver, frame);
    times.push(((performance.now() - start) * 1e6) / FRAMES);
  }
  const median = times.slice(1).toSorted((x, y) => x - y)[(RUNS - 1) / 2]!;
  const { txFrames, kicks } = a.driver.statistics;
  const { rxFrames, calls } = b.driver.statistics;
  console.log(
    `${size} bytes: ${median.toFixed(0)} ns a frame, ${(1e9 / median / 1e6).toFixed(2)} M frames/s, ` +
      `${((size * 8) / median).toFixed(1)} Gbit/s, ${(kicks / txFrames).toFixed(4)} kicks, ${(calls / rxFrames).toFixed(4)} calls a frame`,
  );
  for (const { driver, machine } of [a, b]) {
    await driver.close();
    await machine.close();
  }
}

for (const size of [64, 512, 1514]) await measure(size);
