/** What every VirtioDevice owes its host, over the in-memory transport. */
import { describe, expect, it } from 'vitest';
import { VIRTIO_CONFIG_S_NEEDS_RESET, featureBit } from '@virtlab/abi/virtio';
import type { AioContext } from '@virtlab/aio';
import { createBufferList } from '@virtlab/vring';
import type { DriverLink, VirtioDevice } from '../contract.ts';
import type { DeviceHost } from '../device-host.ts';
import type { DriverSession } from '../driver-session.ts';
import { ALWAYS_ACCEPTED, RING_FEATURES, featureNumbers } from '../features.ts';
import { initializeDevice } from '../initialize-device.ts';
import { POISON } from './echo-client.ts';
import { createMemoryBench } from './memory-bench.ts';
import { runUntilDone } from '../testing/run-until.ts';
import { SimulatedLoops } from '../testing/simulated-loops.ts';

/** A device, its host and a driver's side, connected. */
export interface DeviceBench {
  readonly host: DeviceHost;
  readonly link: DriverLink;
  readonly driverAio: AioContext;
  settle(): Promise<void>;
  close(): Promise<readonly string[]>;
}

export interface DeviceSetup {
  readonly name: string;
  /** A fresh device; it may keep resources until `disposeDevice`. */
  createDevice(): VirtioDevice | Promise<VirtioDevice>;
  disposeDevice?(device: VirtioDevice): void | Promise<void>;
  /** Default: the memory transport over simulated loops. For a device that needs real time, `createMemoryBench`. */
  connect?(device: VirtioDevice): Promise<DeviceBench>;
  /** One ordinary use by the device's own driver, from bringing it up to stopping it: proof that the device works. */
  drive(link: DriverLink, aio: AioContext): Promise<void>;
}

/** Shapes a driver may legally make and no sane one does: `[readable sizes, writable sizes]`. */
const ODD_CHAINS: readonly (readonly [string, readonly number[], readonly number[]])[] = [
  ['one readable byte', [1], []],
  ['one writable byte', [], [1]],
  ['readable bytes only', [16, 512], []],
  ['writable bytes only', [], [512, 1]],
  ['everything in single bytes', Array.from({ length: 20 }, () => 1), Array.from({ length: 20 }, () => 1)],
  ['a first part that is too short', [3], [512]],
  ['nothing where something is due', [16], [1]],
];

export function describeDeviceContract(setup: DeviceSetup): void {
  describe('life of the device', () => {
    it('works, is reset, and works again, three times', async () => {
      await withDevice(setup, async (bench) => {
        for (let round = 0; round < 3; round += 1) await drive(setup, bench);
        expect(bench.host.status).toBe(0);
      });
    });

    it('§2.2.2 works with none of its optional features, and with each one alone', async () => {
      await withDevice(setup, async (bench, device) => {
        for (const wanted of [0n, ...featureNumbers(device.features).map(featureBit)]) {
          if (device.refuseFeatures?.(wanted) !== undefined) continue;
          const session = await start(bench, wanted);
          expect(session.features & device.features & ~ALWAYS_ACCEPTED).toBe(wanted & ~ALWAYS_ACCEPTED);
          await runUntilDone(bench, session.stop());
        }
        await drive(setup, bench);
      });
    });

    it('§2.5 answers reads of any part of its configuration, and none beyond', async () => {
      await withDevice(setup, async (bench, { configSize }) => {
        const all = new Uint8Array(configSize + 8).fill(POISON);
        bench.host.readConfig(0, all);
        expect([...all.subarray(configSize)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
        for (let offset = 0; offset < configSize; offset += 1) {
          const byte = new Uint8Array(1);
          bench.host.readConfig(offset, byte);
          expect(byte[0], `byte ${offset}`).toBe(all[offset]);
          bench.host.writeConfig(offset, byte);
        }
        expect(bench.host.violation).toBeUndefined();
      });
    });
  });

  describe('ends and odd requests', () => {
    it('§2.4.1 writes nothing after a reset during I/O', async () => {
      await withDevice(setup, async (bench, device) => {
        for (let queue = 0; queue < device.queueSizesMax.length; queue += 1) {
          for (const settleCount of [0, 1]) {
            const silence = await isSilentAfterReset(bench, queue, settleCount, 'device');
            expect(silence, `queue ${queue}`).toBe(true);
          }
        }
        await drive(setup, bench);
      });
    });

    it('§2.6.1 writes nothing to a queue after the reset of that queue alone, and goes on', async (test) => {
      await withDevice(setup, async (bench, device) => {
        if (device.resetQueue === undefined) test.skip('the device resets no queue alone');
        for (let queue = 0; queue < device.queueSizesMax.length; queue += 1) {
          for (const settleCount of [0, 1]) {
            const silence = await isSilentAfterReset(bench, queue, settleCount, 'queue');
            expect(silence, `queue ${queue}`).toBe(true);
          }
        }
        await drive(setup, bench);
      });
    });

    it.each(ODD_CHAINS)('survives %s', async (_, readable, writable) => {
      await withDevice(setup, async (bench, device) => {
        for (let queue = 0; queue < device.queueSizesMax.length; queue += 1) {
          expect(['answered', 'kept', 'needs reset']).toContain(
            await sendOdd(bench, queue, readable, writable),
          );
        }
        await drive(setup, bench);
      });
    });

    it('§2.7 survives kicks for nothing', async () => {
      await withDevice(setup, async (bench, device) => {
        const session = await start(bench, RING_FEATURES);
        for (let kick = 0; kick < 3; kick += 1) {
          for (let queue = 0; queue < device.queueSizesMax.length; queue += 1)
            bench.link.transport.kick(queue);
          await bench.settle();
        }
        expect(bench.host.status & VIRTIO_CONFIG_S_NEEDS_RESET).toBe(0);
        await runUntilDone(bench, session.stop());
        await drive(setup, bench);
      });
    });
  });
}

async function withDevice(
  setup: DeviceSetup,
  body: (bench: DeviceBench, device: VirtioDevice) => Promise<void>,
): Promise<void> {
  const device = await setup.createDevice();
  const bench = await connect(setup, device);
  try {
    await body(bench, device);
  } catch (error) {
    await runUntilDone(bench, bench.close()).catch(() => undefined);
    await setup.disposeDevice?.(device);
    throw error;
  }
  expect(await runUntilDone(bench, bench.close()), 'what is still held after close').toEqual([]);
  await setup.disposeDevice?.(device);
}

async function connect(setup: DeviceSetup, device: VirtioDevice): Promise<DeviceBench> {
  return (await setup.connect?.(device)) ?? createMemoryBench({ device, loops: new SimulatedLoops(1) });
}

async function drive(setup: DeviceSetup, bench: DeviceBench): Promise<void> {
  await runUntilDone(bench, setup.drive(bench.link, bench.driverAio));
}

async function start(bench: DeviceBench, wanted: bigint): Promise<DriverSession> {
  return await runUntilDone(bench, initializeDevice(bench.link, { aio: bench.driverAio, wanted }));
}

/** Fills a queue with requests, resets at once or a moment later, and watches the memory afterwards. */
async function isSilentAfterReset(
  bench: DeviceBench,
  queue: number,
  settleCount: number,
  what: 'device' | 'queue',
): Promise<boolean> {
  const { dma } = bench.link;
  const session = await start(bench, RING_FEATURES);
  const partSize = 1024;
  const requestCount = 4;
  const size = partSize * 2 * requestCount;
  const base = dma.allocate(size);
  dma.memory.u8.fill(0, base, base + size);
  const buffers = createBufferList();
  const ring = session.queues[queue]!;
  for (let token = 0; token < requestCount; token += 1) {
    const at = base + token * partSize * 2;
    buffers.clear();
    // Not every queue takes readable bytes: a device may break with the driver, but not over what it is given to fill.
    if (what === 'device') buffers.addReadable(at, 16);
    buffers.addWritable(at + partSize, partSize);
    ring.add(buffers, token);
  }
  session.kick(queue);
  for (let round = 0; round < settleCount; round += 1) await bench.settle();
  // A device that broke with the driver over these requests has stopped already.
  if (what === 'device' || session.broken !== undefined) await runUntilDone(bench, session.stop());
  else await runUntilDone(bench, session.resetQueue(queue));
  dma.memory.u8.fill(POISON, base, base + size);
  for (let round = 0; round < 4; round += 1) await bench.settle();
  const isSilent = dma.memory.u8.subarray(base, base + size).every((byte) => byte === POISON);
  await runUntilDone(bench, session.stop());
  dma.free(base, size);
  return isSilent;
}

/** The device completes the request or breaks with the driver; either way a reset makes it good again. */
async function sendOdd(
  bench: DeviceBench,
  queue: number,
  readable: readonly number[],
  writable: readonly number[],
): Promise<'answered' | 'kept' | 'needs reset'> {
  const { dma } = bench.link;
  const session = await start(bench, RING_FEATURES);
  const ring = session.queues[queue]!;
  const partCountMax = ring.size / 2;
  const outgoing = readable.slice(0, partCountMax);
  const incoming = writable.slice(0, partCountMax);
  const buffers = createBufferList();
  const size = [...outgoing, ...incoming].reduce((sum, part) => sum + part, 0);
  const base = dma.allocate(size);
  dma.memory.u8.fill(0xff, base, base + size);
  let at = base;
  for (const part of outgoing) {
    buffers.addReadable(at, part);
    at += part;
  }
  for (const part of incoming) {
    buffers.addWritable(at, part);
    at += part;
  }
  expect(ring.add(buffers, 0)).toBe(0);
  session.kick(queue);
  for (let round = 0; round < 4; round += 1) await bench.settle();
  const isBroken = (bench.host.status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0;
  const isKept = ring.inFlightCount > 0 && !ring.hasUsed();
  await runUntilDone(bench, session.stop());
  dma.free(base, size);
  if (isBroken) return 'needs reset';
  return isKept ? 'kept' : 'answered';
}
