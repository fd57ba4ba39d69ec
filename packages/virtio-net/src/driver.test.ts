import { describe, expect, it } from 'vitest';
import { featureBits } from '@virtlab/abi/virtio';
import { VIRTIO_NET_F_MRG_RXBUF } from '@virtlab/abi/virtio-net';
import type { NetDeviceOptions } from './device-options.ts';
import { type NetDevice, createNetDevice } from './device.ts';
import type { NetDriver } from './driver-contract.ts';
import { NET_DRIVER_FEATURES, type NetDriverOptions } from './driver-options.ts';
import { createNetDriver } from './driver.ts';
import { TRANSMIT_QUEUE } from './protocol.ts';
import { hex, mac, makeFrame } from './testing/frames.ts';
import { type GuestBench, NetBench } from './testing/net-bench.ts';
import { TestWire } from './testing/wire.ts';

interface Scene {
  readonly driver: NetDriver;
  readonly device: NetDevice;
  readonly wire: TestWire;
  readonly bench: NetBench;
  readonly guest: GuestBench;
  readonly received: string[];
}

interface Setup {
  readonly driver?: Partial<NetDriverOptions>;
  readonly device?: Partial<NetDeviceOptions>;
  readonly memorySize?: number;
}

async function withDriver(
  body: (scene: Scene) => Promise<void>,
  { driver: options = {}, device: deviceOptions = {}, memorySize = 1 << 20 }: Setup = {},
): Promise<void> {
  const wire = new TestWire();
  const device = createNetDevice({ mac: mac(1), port: wire, queueSize: 32, ...deviceOptions });
  const bench = new NetBench();
  const guest = bench.addGuest(device, { memorySize });
  const driver = await bench.run(createNetDriver(guest.link, { aio: guest.aio, ...options }));
  const received: string[] = [];
  driver.onFrame((frame) => received.push(hex(frame)));
  await bench.settle();
  await body({ driver, device, wire, bench, guest, received });
  await bench.run(driver.close());
  expect(await bench.close(), 'what is still held').toEqual([]);
}

const frame = (size: number, mark = 0): Uint8Array => makeFrame(mac(2), mac(1), size, mark);
const NOT_MERGING = NET_DRIVER_FEATURES & ~featureBits(VIRTIO_NET_F_MRG_RXBUF);

describe('what it is', () => {
  it('§5.1.4 reads address, MTU and link', async () => {
    await withDriver(
      async ({ driver }) => {
        expect([hex(driver.mac), driver.mtu, driver.frameSizeMax]).toEqual(['020000000001', 9000, 9014]);
        expect([driver.linkUp, driver.failure]).toEqual([false, undefined]);
        expect(driver.features & NET_DRIVER_FEATURES).toBe(NET_DRIVER_FEATURES);
      },
      { device: { mtu: 9000, linkUp: false } },
    );
  });
});

describe('sending', () => {
  it('frames of every size up to mtu + 14 go out as they are, in order', async () => {
    await withDriver(async ({ driver, wire, bench }) => {
      const sizes = [14, 15, 47, 48, 60, 61, 511, 1513, 1514];
      for (const size of sizes) expect(driver.send(frame(size, size))).toBe(true);
      driver.kick();
      await bench.settle();
      expect(wire.sent.map(hex)).toEqual(sizes.map((size) => hex(frame(size, size))));
      expect(driver.statistics).toMatchObject({ txFrames: 9, txBytes: sizes.reduce((a, b) => a + b) });
    });
  });

  it.each([0, 13, 1515, 70_000])('throws RangeError for %i bytes', async (size) => {
    await withDriver(async ({ driver }) => {
      expect(() => driver.send(new Uint8Array(size))).toThrow(RangeError);
      driver.reserve();
      expect(() => driver.commit(size)).toThrow(RangeError);
    });
  });

  it('the device sees nothing before kick, and a batch costs one kick', async () => {
    await withDriver(async ({ driver, wire, bench }) => {
      const { kicks } = driver.statistics;
      for (let index = 0; index < 20; index += 1) driver.send(frame(60));
      await bench.settle();
      expect(wire.sent.length).toBe(0);
      driver.kick();
      driver.kick();
      await bench.settle();
      expect([wire.sent.length, driver.statistics.kicks - kicks]).toEqual([20, 1]);
    });
  });

  it('a frame built in place goes out; it stays reserved until commit', async () => {
    await withDriver(async ({ driver, wire, bench }) => {
      expect(() => driver.commit(60)).toThrow(TypeError);
      const at = driver.reserve();
      expect(driver.reserve()).toBe(at);
      driver.memory.u8.set(frame(1514, 3), at);
      driver.commit(1514);
      driver.kick();
      await bench.settle();
      expect(wire.sent.map(hex)).toEqual([hex(frame(1514, 3))]);
    });
  });

  it('full: false, what was staged goes out by itself, and onWritable follows once', async () => {
    await withDriver(async ({ driver, wire, bench }) => {
      let writable = 0;
      driver.onWritable(() => (writable += 1));
      let sent = 0;
      while (driver.send(frame(60, sent))) sent += 1;
      expect([sent, driver.send(frame(60)), driver.reserve(), writable]).toEqual([32, false, -1, 0]);
      await bench.settle();
      expect([wire.sent.length, writable]).toEqual([32, 1]);
      expect(driver.send(frame(60))).toBe(true);
      driver.kick();
      await bench.settle();
      expect([wire.sent.length, writable]).toEqual([33, 1]);
    });
  });

  it('a handler of onWritable may fill the ring again, for ever', async () => {
    await withDriver(async ({ driver, wire, bench, guest }) => {
      let sent = 0;
      const fill = (): void => {
        while (sent < 1000 && driver.send(frame(60, sent))) sent += 1;
        driver.kick();
      };
      driver.onWritable(fill);
      fill();
      await bench.until('all are out', () => wire.sent.length === 1000);
      expect(wire.sent.map(hex)).toEqual(Array.from({ length: 1000 }, (_, index) => hex(frame(60, index))));
      expect(guest.host.statistics[TRANSMIT_QUEUE]!.calls).toBeLessThanOrEqual(1000 / 8);
    });
  });

  it('§2.7.7 no calls for sent frames unless somebody waits', async () => {
    const work = async ({ driver, bench, wire, guest }: Scene): Promise<void> => {
      const { calls } = guest.host.statistics[TRANSMIT_QUEUE]!;
      while (driver.send(frame(60)));
      await bench.settle();
      const waited = guest.host.statistics[TRANSMIT_QUEUE]!.calls;
      expect([calls, waited]).toEqual([0, 1]);
      wire.sent.length = 0;
      for (let round = 0; round < 100; round += 1) {
        for (let index = 0; index < 8; index += 1) driver.send(frame(60));
        driver.kick();
        await bench.settle();
      }
      expect(wire.sent.length).toBe(800);
      expect(guest.host.statistics[TRANSMIT_QUEUE]!.calls).toBe(waited);
    };
    await withDriver(work, { driver: { polling: false } });
  });
});

describe('receiving', () => {
  it.each([
    ['merged buffers of 128 bytes', { rxBufferSize: 128 }],
    ['merged buffers of 2048 bytes', {}],
    ['whole buffers', { wanted: NOT_MERGING }],
  ])('frames of every size, in order: %s', async (_what, driver) => {
    await withDriver(
      async ({ wire, received, bench, driver: { statistics } }) => {
        const sizes = [14, 116, 117, 244, 245, 60, 1514, 1518, 61];
        const frames = sizes.map((size) => frame(size, size));
        for (const next of frames) {
          expect(wire.deliver(next)).toEqual([true]);
          await bench.settle();
        }
        expect(received).toEqual(frames.map(hex));
        expect(statistics.rxDropped).toBe(0);
      },
      { driver },
    );
  });

  it('jumbo frames over merged pages, and up to an MTU of 65,535', async () => {
    for (const mtu of [9000, 65_535]) {
      await withDriver(
        async ({ driver, wire, received, bench }) => {
          const large = frame(mtu + 14);
          expect(wire.deliver(large)).toEqual([true]);
          driver.send(large);
          driver.kick();
          await bench.settle();
          expect(received).toEqual([hex(large)]);
          expect(wire.sent.map(hex)).toEqual([hex(large)]);
        },
        { device: { mtu, queueSize: 64 }, memorySize: 8 << 20 },
      );
    }
  });

  it('starves, recovers, and loses only what found no buffer', async () => {
    await withDriver(async ({ wire, received, bench, device, driver }) => {
      const burst = Array.from({ length: 50 }, (_, index) => frame(100, index));
      expect(wire.deliver(...burst).filter(Boolean).length).toBe(32);
      await bench.settle();
      expect(wire.deliver(...burst.slice(32)).every(Boolean)).toBe(true);
      await bench.settle();
      expect(received).toEqual(burst.map(hex));
      expect([device.statistics.rxNoBuffer, driver.statistics.rxDropped]).toEqual([18, 0]);
    });
  });

  it('frames that came before there was a handler wait in the ring', async () => {
    await withDriver(async ({ wire, received, bench, driver }) => {
      driver.onFrame(undefined);
      wire.deliver(frame(60));
      await bench.settle();
      expect(received).toEqual([]);
      driver.onFrame((bytes) => received.push(hex(bytes)));
      await bench.settle();
      expect(received).toEqual([hex(frame(60))]);
    });
  });

  it('a handler may send and close', async () => {
    await withDriver(async ({ wire, bench, driver }) => {
      driver.onFrame((bytes) => {
        driver.send(bytes);
        driver.kick();
        void driver.close();
      });
      wire.deliver(frame(60), frame(60));
      await bench.settle();
      expect([driver.failure, driver.statistics.rxFrames]).toEqual(['driver closed', 1]);
    });
  });
});

describe('link and end', () => {
  it('§5.1.4.2 follows the link', async () => {
    await withDriver(async ({ driver, device, bench, wire }) => {
      const changes: boolean[] = [];
      driver.onLinkChange((up) => changes.push(up));
      device.setLink(false);
      await bench.settle();
      expect(driver.send(frame(60))).toBe(true);
      device.setLink(true);
      await bench.settle();
      expect([changes, driver.linkUp, driver.statistics.txDropped]).toEqual([[false, true], true, 1]);
      expect(wire.sent).toEqual([]);
    });
  });

  it('closes twice, with frames in flight', async () => {
    await withDriver(async ({ driver, bench }) => {
      driver.send(frame(60));
      await bench.run(Promise.all([driver.close(), driver.close()]));
      expect(() => driver.send(frame(60))).toThrow('ENODEV: driver closed');
    });
  });

  it('a device that is removed leaves nothing lent', async () => {
    await withDriver(async ({ driver, bench, guest }) => {
      driver.send(frame(60));
      driver.kick();
      await bench.run(guest.removeDevice('gone for good'));
      await bench.settle();
      expect(driver.failure).toContain('gone for good');
    });
  });
});
