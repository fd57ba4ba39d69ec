import { describe, expect, it } from 'vitest';
import { fc } from '@fast-check/vitest';
import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_CONFIG_S_NEEDS_RESET, featureBits } from '@virtlab/abi/virtio';
import * as net from '@virtlab/abi/virtio-net';
import * as ctrl from '@virtlab/abi/virtio-net-ctrl';
import type { NetDeviceOptions } from './device-options.ts';
import { type NetDevice, createNetDevice } from './device.ts';
import type { NetDriver } from './driver-contract.ts';
import type { NetControl } from './driver-control.ts';
import { NET_DRIVER_ALL_FEATURES, type NetDriverOptions } from './driver-options.ts';
import { createNetDriver } from './driver.ts';
import { BytesFrame } from './frame-views.ts';
import { HASH_TYPES_ALL } from './receive-hash.ts';
import { BROADCAST, hex, mac, makeFrame } from './testing/frames.ts';
import { buildPacket } from './testing/internet-packets.ts';
import { type GuestBench, NetBench } from './testing/net-bench.ts';
import { RawCard } from './testing/raw-card.ts';
import { TestWire } from './testing/wire.ts';

/** All but packed and in-order rings, and without frames left unfinished. */
const PLAIN: FeatureBits =
  NET_DRIVER_ALL_FEATURES & ~featureBits(34, 35, net.VIRTIO_NET_F_CTRL_VLAN, net.VIRTIO_NET_F_HASH_REPORT);
const KEY = Uint8Array.from({ length: 40 }, (_, index) => index * 5 + 1);

interface Scene {
  readonly driver: NetDriver;
  readonly control: NetControl;
  readonly device: NetDevice;
  readonly wire: TestWire;
  readonly bench: NetBench;
  readonly guest: GuestBench;
  readonly received: {
    readonly frame: string;
    readonly pair: number;
    readonly hash: number;
    readonly report: number;
  }[];
  /** Which of these destinations the device lets through. */
  passing(...destinations: readonly Uint8Array[]): Promise<boolean[]>;
}

async function withControl(
  body: (scene: Scene) => Promise<void>,
  device: Partial<NetDeviceOptions> = {},
  options: Partial<NetDriverOptions> = {},
): Promise<void> {
  const wire = new TestWire();
  const card = createNetDevice({ mac: mac(1), port: wire, queueSize: 32, ...device });
  const bench = new NetBench();
  const guest = bench.addGuest(card, { memorySize: (8 << 20) * (device.queuePairs ?? 1) });
  const bringUp = createNetDriver(guest.link, { aio: guest.aio, wanted: PLAIN, ...options });
  const driver = await bench.run(bringUp);
  const received: Scene['received'][number][] = [];
  driver.onFrame((frame, { pair, hash, hashReport: report }) =>
    received.push({ frame: hex(frame), pair, hash, report }),
  );
  await bench.settle();
  const passing = async (...destinations: readonly Uint8Array[]): Promise<boolean[]> => {
    const outcome = wire.deliver(...destinations.map((to) => makeFrame(to, mac(9), 60)));
    await bench.settle();
    return outcome;
  };
  await body({ driver, control: driver.control!, device: card, wire, bench, guest, received, passing });
  await bench.run(driver.close());
  expect(await bench.close(), 'what is still held').toEqual([]);
}

const multicast = (last: number): Uint8Array => Uint8Array.of(1, 0, 0x5e, 0, 0, last);

describe('§5.1.9.5.1 receive modes', () => {
  it('promiscuous until the driver says otherwise; then own address, broadcast and what is allowed', async () => {
    await withControl(async ({ control, bench, passing, device }) => {
      const probe = (): Promise<boolean[]> => passing(mac(1), mac(7), multicast(1), BROADCAST);
      expect(await probe()).toEqual([true, true, true, true]);
      const steps: readonly (readonly [Parameters<NetControl['setMode']>[0], boolean, boolean[]])[] = [
        ['promiscuous', false, [true, false, false, true]],
        ['allMulticast', true, [true, false, true, true]],
        ['allUnicast', true, [true, true, true, true]],
        ['noBroadcast', true, [true, true, true, false]],
        ['noMulticast', true, [true, true, false, false]],
        ['noUnicast', true, [false, false, false, false]],
        ['promiscuous', true, [true, true, true, true]],
      ];
      for (const [mode, on, expected] of steps) {
        await bench.run(control.setMode(mode, on));
        expect(await probe(), `${mode} ${on}`).toEqual(expected);
      }
      expect(device.statistics.rxFiltered).toBeGreaterThan(0);
    });
  });
});

describe('§5.1.9.5.2 addresses', () => {
  it('tables of both kinds; one that is too long lets all of its kind through', async () => {
    await withControl(async ({ control, bench, passing }) => {
      await bench.run(control.setMode('promiscuous', false));
      await bench.run(control.setMacTables([mac(7)], [multicast(1)]));
      expect(await passing(mac(7), mac(8), multicast(1), multicast(2))).toEqual([true, false, true, false]);
      const many = Array.from({ length: 65 }, (_, index) => mac(100 + index));
      await bench.run(control.setMacTables(many, []));
      expect(await passing(mac(7), mac(8), multicast(1))).toEqual([true, true, false]);
    });
  });

  it('the driver sets the card’s own; a reset brings back the first', async () => {
    await withControl(async ({ driver, control, device, bench, passing }) => {
      await bench.run(control.setMode('promiscuous', false));
      await bench.run(control.setMac(mac(77)));
      expect([hex(driver.mac), hex(device.mac)]).toEqual([hex(mac(77)), hex(mac(77))]);
      const config = new Uint8Array(6);
      device.readConfig(0, config);
      expect(hex(config)).toBe(hex(mac(77)));
      expect(await passing(mac(1), mac(77))).toEqual([false, true]);
      await expect(bench.run(control.setMac(BROADCAST))).rejects.toThrow('EINVAL');
      await bench.run(driver.close());
      expect(hex(device.mac)).toBe(hex(mac(1)));
    });
  });
});

describe('§5.1.9.5.3 VLAN', () => {
  it('tagged frames pass if their id was added, untagged ones always', async () => {
    const wanted = PLAIN | featureBits(net.VIRTIO_NET_F_CTRL_VLAN);
    await withControl(
      async ({ control, bench, wire }) => {
        const tagged = (id: number): Uint8Array => {
          const frame = makeFrame(mac(1), mac(9), 60);
          frame.set([0x81, 0, id >> 8, id & 0xff], 12);
          return frame;
        };
        const probe = (): boolean[] => wire.deliver(tagged(5), tagged(0xfff), makeFrame(mac(1), mac(9), 60));
        expect(probe()).toEqual([false, false, true]);
        await bench.run(control.addVlan(5));
        await bench.run(control.addVlan(0xfff));
        expect(probe()).toEqual([true, true, true]);
        await bench.run(control.removeVlan(5));
        expect(probe()).toEqual([false, true, true]);
        await expect(bench.run(control.addVlan(4096))).rejects.toThrow('EINVAL');
      },
      {},
      { wanted },
    );
  });
});

describe('§5.1.9.5.4 announcement', () => {
  it('the driver is asked, its handler runs, and it acknowledges', async () => {
    await withControl(async ({ driver, device, bench, control }) => {
      let asked = 0;
      driver.onAnnounce(() => (asked += 1));
      await expect(bench.run(control.acknowledgeAnnounce())).rejects.toThrow('EINVAL');
      expect(device.announce()).toBe(true);
      await bench.settle();
      await bench.until('acknowledged', () => device.work.control.done === 1);
      expect([asked, driver.linkUp]).toEqual([1, true]);
    });
  });

  it('not without a driver or the feature', () => {
    expect(createNetDevice({ mac: mac(1), port: new TestWire() }).announce()).toBe(false);
  });
});

describe('§5.1.9.5.9 offloads', () => {
  const shape = { version: 4, protocol: 6, payloadSize: 2000 } as const;
  const packet = buildPacket(shape);
  const offload = { flags: 1, gsoType: 1, hdrLen: 54, gsoSize: 1000, csumStart: 34, csumOffset: 16 };

  it('what the driver switched off is done in software from then on', async () => {
    await withControl(
      async ({ control, wire, bench, received, device }) => {
        const deliver = async (): Promise<void> => {
          wire.deliverView(new BytesFrame().set(packet.bytes, 0, packet.bytes.length, offload));
          await bench.settle();
        };
        await deliver();
        expect(received.length).toBe(1);
        await bench.run(control.setGuestOffloads(featureBits(net.VIRTIO_NET_F_GUEST_CSUM)));
        await deliver();
        expect(received.length, 'two segments').toBe(3);
        expect(device.work.software).toMatchObject({ segmented: 1, segments: 2 });
        await bench.run(control.setGuestOffloads(0n));
        await expect(
          bench.run(control.setGuestOffloads(featureBits(net.VIRTIO_NET_F_GUEST_TSO4))),
        ).rejects.toThrow('EINVAL');
        await expect(
          bench.run(control.setGuestOffloads(featureBits(net.VIRTIO_NET_F_GUEST_UFO))),
        ).rejects.toThrow('EINVAL');
      },
      {},
      { wanted: PLAIN },
    );
  });
});

describe('§5.1.9.5.10 coalescing', () => {
  it('calls after so many packets, or so long after the first', async () => {
    await withControl(async ({ control, bench, wire, guest, received }) => {
      await bench.run(control.setCoalescing('rx', { maxPackets: 4, maxUsecs: 20_000 }));
      const frame = makeFrame(mac(1), mac(9), 60);
      const calls = (): number => guest.host.statistics[0]!.calls;
      const before = calls();
      for (let index = 0; index < 3; index += 1) wire.deliver(frame);
      await bench.simulation.advance(5);
      expect([calls() - before, received.length]).toEqual([0, 0]);
      wire.deliver(frame);
      await bench.simulation.advance(5);
      expect([calls() - before, received.length]).toEqual([1, 4]);
      wire.deliver(frame);
      await bench.simulation.advance(15);
      expect(calls() - before).toBe(1);
      await bench.simulation.advance(10);
      expect([calls() - before, received.length]).toEqual([2, 5]);
    });
  });

  it('per queue, and read back', async () => {
    await withControl(async ({ control, bench }) => {
      await bench.run(control.setCoalescing('tx', { maxPackets: 8, maxUsecs: 100 }));
      await bench.run(control.setQueueCoalescing(0, { maxPackets: 3, maxUsecs: 7 }));
      expect(await bench.run(control.queueCoalescing(0))).toEqual({ maxPackets: 3, maxUsecs: 7 });
      expect(await bench.run(control.queueCoalescing(1))).toEqual({ maxPackets: 8, maxUsecs: 100 });
      for (const queue of [2, 3, 0xffff]) {
        await expect(bench.run(control.queueCoalescing(queue))).rejects.toThrow('EINVAL');
      }
    });
  });
});

describe('several pairs', () => {
  const flow = (seed: number): Uint8Array =>
    buildPacket({ version: 4, protocol: 17, payloadSize: 40, seed }).bytes;
  const many = Array.from({ length: 24 }, (_, seed) => flow(seed));

  it('§5.1.9.5.6 automatic steering: answers come on the pair that the flow was sent from', async () => {
    await withControl(
      async ({ driver, wire, bench, received, device }) => {
        expect([driver.queuePairs, device.queueSizesMax.length]).toEqual([4, 9]);
        for (const frame of many) driver.send(frame);
        driver.kick();
        await bench.settle();
        const sent = many.map((_, seed) => wire.sent.findIndex((frame) => hex(frame) === hex(many[seed]!)));
        expect(sent.includes(-1)).toBe(false);
        wire.deliver(...many);
        await bench.settle();
        const used = new Set(received.map(({ pair }) => pair));
        expect([received.length, used.size]).toEqual([24, 4]);
      },
      { queuePairs: 4 },
      { queuePairs: 4 },
    );
  });

  it('§5.1.9.5.7 RSS: the table decides, what has no hash goes to the pair for it, and the hash is reported', async () => {
    const wanted = PLAIN | featureBits(net.VIRTIO_NET_F_HASH_REPORT);
    await withControl(
      async ({ control, wire, bench, received }) => {
        await bench.run(
          control.setRss({ hashTypes: HASH_TYPES_ALL, key: KEY, table: [3, 2, 3, 2], unclassified: 1 }),
        );
        wire.deliver(...many, makeFrame(mac(1), mac(9), 60));
        await bench.settle();
        const last = received.find(({ report }) => report === 0)!;
        expect([last.pair, last.hash]).toEqual([1, 0]);
        const hashed = received.filter(({ report }) => report === ctrl.VIRTIO_NET_HASH_REPORT_UDPv4);
        expect(hashed.length).toBe(24);
        for (const { hash, pair } of hashed) expect(pair).toBe([3, 2, 3, 2][hash & 3]);
        const wrong = { hashTypes: HASH_TYPES_ALL, key: KEY, table: [0], unclassified: 0 };
        for (const bad of [
          { table: [0, 1, 2] },
          { table: [4] },
          { unclassified: 4 },
          { hashTypes: 0x200 },
          { maxTxPairs: 5 },
          { key: new Uint8Array(41) },
        ]) {
          await expect(bench.run(control.setRss({ ...wrong, ...bad }))).rejects.toThrow('EINVAL');
        }
        await bench.run(control.setHash(0, KEY));
      },
      { queuePairs: 4 },
      { queuePairs: 4, wanted },
    );
  });

  it('§5.1.2 without MQ the control queue follows the first pair', async () => {
    const wanted = PLAIN & ~featureBits(net.VIRTIO_NET_F_MQ, net.VIRTIO_NET_F_RSS);
    await withControl(
      async ({ control, bench, driver }) => {
        await bench.run(control.setMode('promiscuous', false));
        await expect(bench.run(control.setQueuePairs(1))).rejects.toThrow('ENOTSUP');
        expect(driver.queuePairs).toBe(1);
      },
      { queuePairs: 4 },
      { wanted },
    );
  });

  it.each([0, 5, 0x8001])('§5.1.9.5.5 refuses %i of 4 pairs', async (count) => {
    await withControl(
      async ({ control, bench }) => {
        await expect(bench.run(control.setQueuePairs(count))).rejects.toThrow('EINVAL');
        await bench.run(control.setQueuePairs(4));
      },
      { queuePairs: 4 },
      { queuePairs: 4 },
    );
  });
});

describe('requests that a driver must not make', () => {
  async function withRaw(
    body: (card: RawCard, bench: NetBench, guest: GuestBench) => Promise<void>,
  ): Promise<void> {
    const bench = new NetBench();
    const guest = bench.addGuest(createNetDevice({ mac: mac(1), port: new TestWire() }));
    const card = new RawCard(await guest.initialize(PLAIN));
    await bench.settle();
    await body(card, bench, guest);
    await bench.run(card.stop());
    expect(await bench.close()).toEqual([]);
  }

  it.each([
    ['no whole header', [Uint8Array.of(0)], [1]],
    ['no room for an answer', [Uint8Array.of(0, 0, 1)], []],
  ])('%s: device needs reset', async (_what, readable, writable) => {
    await withRaw(async (card, bench, guest) => {
      card.add(2, readable, writable);
      card.kick(2);
      await bench.settle();
      expect(guest.host.status & VIRTIO_CONFIG_S_NEEDS_RESET).not.toBe(0);
      expect(guest.violations).toMatchObject([{ violation: { section: '5.1.9.5' } }]);
    });
  });

  it('everything else is answered, with an error unless it is whole; nothing is written behind the answer', async () => {
    const request = fc.tuple(
      fc.oneof(fc.nat(10), fc.nat(255)),
      fc.oneof(fc.nat(6), fc.nat(255)),
      fc.uint8Array({ maxLength: 40 }),
      fc.integer({ min: 1, max: 12 }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 8 }), async (requests) => {
        await withRaw(async (card, bench) => {
          for (const [controlClass, command, data, room] of requests) {
            card.add(2, [Uint8Array.of(controlClass, command), ...(data.length > 0 ? [data] : [])], [room]);
          }
          card.kick(2);
          await bench.settle();
          expect(card.used.length).toBe(requests.length);
          for (const { bytes, usedSize } of card.used) {
            expect(bytes[0]).toBeLessThanOrEqual(1);
            expect(new Set(bytes.subarray(usedSize))).toEqual(new Set(usedSize < bytes.length ? [0xdb] : []));
          }
        });
      }),
      { numRuns: 60 },
    );
  });
});

describe('a control queue that does not answer', () => {
  it('ENODEV when the device goes', async () => {
    await withControl(async ({ driver, control, guest, bench }) => {
      const gone = control.setMode('promiscuous', false);
      gone.catch(() => undefined);
      await guest.removeDevice('pulled');
      await expect(bench.run(gone)).rejects.toThrow('ENODEV');
      await expect(bench.run(control.setMode('promiscuous', true))).rejects.toThrow('ENODEV');
      expect(driver.failure).toContain('pulled');
    });
  });
});
