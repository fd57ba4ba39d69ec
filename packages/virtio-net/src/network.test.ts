import { describe, expect, it } from 'vitest';
import { fc } from '@fast-check/vitest';
import { featureBits } from '@virtlab/abi/virtio';
import { VIRTIO_NET_F_MRG_RXBUF } from '@virtlab/abi/virtio-net';
import { VIRTIO_RING_F_EVENT_IDX } from '@virtlab/abi/virtio-ring';
import { type NetDevice, createNetDevice } from './device.ts';
import type { NetDriver } from './driver-contract.ts';
import { NET_DRIVER_FEATURES, type NetDriverOptions } from './driver-options.ts';
import { createNetDriver } from './driver.ts';
import { type LearningSwitch, createLearningSwitch } from './learning-switch.ts';
import { BROADCAST, hex, mac, makeFrame } from './testing/frames.ts';
import { RawCard } from './testing/raw-card.ts';
import { NetBench, type NetBenchOptions } from './testing/net-bench.ts';

interface Guest {
  readonly driver: NetDriver;
  readonly device: NetDevice;
  readonly address: Uint8Array;
  readonly received: string[];
}

interface Setup {
  readonly bench?: NetBenchOptions;
  readonly queueSize?: number;
  readonly drivers: readonly Partial<NetDriverOptions>[];
}

/** Guests on one switch, each with memory and a loop of its own. */
async function withGuests(
  body: (guests: readonly Guest[], bench: NetBench, network: LearningSwitch) => Promise<void>,
  { bench: benchOptions, queueSize = 32, drivers }: Setup,
): Promise<void> {
  const bench = new NetBench(benchOptions);
  const network = createLearningSwitch({ now: () => bench.simulation.now() });
  const guests: Guest[] = [];
  for (const [index, options] of drivers.entries()) {
    const address = mac(index + 1);
    const device = createNetDevice({ mac: address, port: network.addPort(`guest ${index}`), queueSize });
    const { link, aio } = bench.addGuest(device);
    const driver = await bench.run(createNetDriver(link, { aio, ...options }));
    const received: string[] = [];
    driver.onFrame((frame) => received.push(hex(frame)));
    guests.push({ driver, device, address, received });
  }
  await bench.settle();
  await body(guests, bench, network);
  for (const { driver } of guests) await bench.run(driver.close());
  expect(await bench.close(), 'what is still held').toEqual([]);
}

/** Sends frames as fast as the ring takes them, with at most `windowCount` more sent than arrived. */
class Pump {
  readonly #from: Guest;
  readonly #to: Guest;
  readonly frames: readonly Uint8Array[];
  readonly #windowCount: number;
  sentCount = 0;

  constructor(from: Guest, to: Guest, sizes: readonly number[], windowCount: number) {
    this.#from = from;
    this.#to = to;
    this.#windowCount = windowCount;
    this.frames = sizes.map((size, index) => makeFrame(to.address, from.address, size, index));
    from.driver.onWritable(() => this.push());
    to.driver.onFrame((frame) => {
      to.received.push(hex(frame));
      this.push();
    });
  }

  push(): void {
    const { driver } = this.#from;
    while (this.sentCount < this.frames.length) {
      if (this.sentCount - this.#to.received.length >= this.#windowCount) break;
      if (!driver.send(this.frames[this.sentCount]!)) break;
      this.sentCount += 1;
    }
    driver.kick();
  }

  /** Sent and accounted for: arrived, or dropped for want of buffers. */
  get isDone(): boolean {
    const { rxNoBuffer, rxShortBuffer } = this.#to.device.statistics;
    const arrived = this.#to.received.length + rxNoBuffer + rxShortBuffer;
    return this.sentCount === this.frames.length && arrived === this.frames.length;
  }
}

/** Whether all of `part` stand in `whole` in the same order, none twice. */
function isSubsequence(part: readonly string[], whole: readonly string[]): boolean {
  let at = 0;
  for (const item of part) {
    at = whole.indexOf(item, at) + 1;
    if (at === 0) return false;
  }
  return true;
}

describe('two drivers over a switch', () => {
  const merging = featureBits(VIRTIO_NET_F_MRG_RXBUF);
  const eventIdx = featureBits(VIRTIO_RING_F_EVENT_IDX);
  const driverOptions = fc.record({
    rxBufferSize: fc.constantFrom(128, 256, 2048),
    wanted: fc.constantFrom(
      NET_DRIVER_FEATURES,
      NET_DRIVER_FEATURES & ~eventIdx,
      NET_DRIVER_FEATURES & ~merging,
      0n,
    ),
    queueSize: fc.constantFrom(32, 64),
  });
  const benchOptions = fc.record({
    seed: fc.integer(),
    doorbells: fc.constantFrom('calm', 'coalescing', 'late', 'spurious'),
    polling: fc.boolean(),
  });
  const frameSizes = fc.array(
    fc.oneof(fc.integer({ min: 18, max: 200 }), fc.integer({ min: 18, max: 1514 })),
    { minLength: 1, maxLength: 120 },
  );

  it('every frame arrives once and in order, both ways at once, over any doorbells, buffers and features', async () => {
    await fc.assert(
      fc.asyncProperty(
        benchOptions,
        fc.tuple(driverOptions, driverOptions),
        fc.tuple(frameSizes, frameSizes),
        // The smallest ring holds two of the largest frames; without a window some frames are lost, and counted.
        fc.constantFrom(2, Number.POSITIVE_INFINITY),
        async (bench, options, [forth, back], windowCount) => {
          const drivers = options.map((driver) => ({ ...driver, polling: bench.polling }));
          await withGuests(
            async ([a, b], net) => {
              const pumps = [new Pump(a!, b!, forth, windowCount), new Pump(b!, a!, back, windowCount)];
              for (const pump of pumps) pump.push();
              await net.until('all frames are accounted for', () => pumps.every(({ isDone }) => isDone));
              for (const [{ frames }, to] of [
                [pumps[0]!, b!],
                [pumps[1]!, a!],
              ] as const) {
                const expected = frames.map(hex);
                expect(isSubsequence(to.received, expected)).toBe(true);
                expect(to.received.length === frames.length || windowCount !== 2).toBe(true);
                expect(to.driver.statistics.rxDropped).toBe(0);
              }
            },
            { bench, drivers, queueSize: 64 },
          );
        },
      ),
      { numRuns: 60 },
    );
  });

  it('the same seed gives the same trace', async () => {
    const traceOf = async (seed: number): Promise<string> => {
      let trace = '';
      await withGuests(
        async ([a, b], bench) => {
          const pump = new Pump(
            a!,
            b!,
            Array.from({ length: 100 }, (_, index) => 60 + index),
            8,
          );
          pump.push();
          await bench.until('all arrived', () => pump.isDone);
          trace = JSON.stringify(bench.simulation.trace);
        },
        { bench: { seed, doorbells: 'late' }, drivers: [{}, {}] },
      );
      return trace;
    };
    expect(await traceOf(5)).toBe(await traceOf(5));
    expect(await traceOf(5)).not.toBe(await traceOf(6));
  });

  it('few doorbells: a batch costs one kick and one call', async () => {
    await withGuests(
      async ([a, b], bench) => {
        const before = [a!.driver.statistics.kicks, b!.driver.statistics.calls];
        for (let round = 0; round < 50; round += 1) {
          for (let index = 0; index < 16; index += 1) {
            a!.driver.send(makeFrame(b!.address, a!.address, 1514, index));
          }
          a!.driver.kick();
          await bench.settle();
        }
        expect(b!.received.length).toBe(800);
        const after = [a!.driver.statistics.kicks, b!.driver.statistics.calls];
        expect(after.map((count, index) => count - before[index]!)).toEqual([50, 50]);
      },
      { drivers: [{}, {}] },
    );
  });
});

describe('more guests', () => {
  it('one that takes nothing loses its frames only, and gets what waits in its ring when it comes back', async () => {
    await withGuests(
      async ([a, b, c], bench) => {
        c!.driver.onFrame(undefined);
        const frames = Array.from({ length: 100 }, (_, index) =>
          makeFrame(BROADCAST, a!.address, 100, index),
        );
        for (const frame of frames) {
          a!.driver.send(frame);
          a!.driver.kick();
          await bench.settle();
        }
        expect(b!.received).toEqual(frames.map(hex));
        expect(c!.device.statistics.rxNoBuffer).toBe(100 - 32);
        c!.driver.onFrame((frame) => c!.received.push(hex(frame)));
        await bench.settle();
        expect(c!.received).toEqual(frames.slice(0, 32).map(hex));
        a!.driver.send(frames[99]!);
        a!.driver.kick();
        await bench.settle();
        expect(c!.received.at(-1)).toBe(hex(frames[99]!));
      },
      { drivers: [{}, {}, {}] },
    );
  });

  it('one that breaks the rules of its ring needs a reset; the others do not notice', async () => {
    const bench = new NetBench();
    const network = createLearningSwitch();
    const device = createNetDevice({ mac: mac(9), port: network.addPort('rogue') });
    const rogue = bench.addGuest(device);
    const card = new RawCard(await rogue.initialize(NET_DRIVER_FEATURES));
    card.add(0, [], [4]);
    card.kick(0);
    const guests: NetDriver[] = [];
    const received: string[] = [];
    for (const last of [1, 2]) {
      const { link, aio } = bench.addGuest(
        createNetDevice({ mac: mac(last), port: network.addPort(`${last}`) }),
        {
          memorySize: 2 << 20,
        },
      );
      guests.push(await bench.run(createNetDriver(link, { aio })));
    }
    guests[1]!.onFrame((frame) => received.push(hex(frame)));
    const frames = [1, 2, 3].map((mark) => makeFrame(BROADCAST, mac(1), 60, mark));
    for (const frame of frames) guests[0]!.send(frame);
    guests[0]!.kick();
    await bench.settle();
    expect(received).toEqual(frames.map(hex));
    expect(rogue.violations).toMatchObject([{ violation: { section: '5.1.9.3' } }]);
    expect(guests.map(({ failure }) => failure)).toEqual([undefined, undefined]);
    for (const guest of guests) await bench.run(guest.close());
    await bench.run(card.stop());
    expect(await bench.close()).toEqual([]);
  });

  it('one that goes away in the middle hurts nobody', async () => {
    await withGuests(
      async ([a, b, c], bench, network) => {
        const send = async (mark: number): Promise<void> => {
          a!.driver.send(makeFrame(BROADCAST, a!.address, 60, mark));
          a!.driver.kick();
          await bench.settle();
        };
        await send(0);
        await bench.run(b!.driver.close());
        await send(1);
        network.removePort('guest 1');
        await send(2);
        expect([b!.received.length, c!.received.length]).toEqual([1, 3]);
        expect(b!.device.statistics.rxInactive).toBe(1);
      },
      { drivers: [{}, {}, {}] },
    );
  });
});
