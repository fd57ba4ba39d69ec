import { XenbusState } from '@virtlab/abi/xenbus';
import { DeviceHost } from '@virtlab/virtio';
import { createDevice, offlineDevice, readState } from '@virtlab/xenbus';
import { describe, expect, it } from 'vitest';
import { Bench } from './testing/bench.ts';
import { STATUS_DRIVER_OK, bringUp } from './testing/drive.ts';
import { RawRing } from './testing/raw-ring.ts';
import { RigDevice } from './testing/rig-device.ts';
import { TinyDevice } from './testing/tiny-device.ts';
import { XenRig } from './testing/xen-rig.ts';

/** Ways to lose a device under a live driver, and what the backend says of it. */
const LOSSES: readonly (readonly [string, string, (bench: Bench) => Promise<void>])[] = [
  ['both directories removed', 'removed', ({ place }) => place.unplug()],
  ['the backend’s directory removed', 'removed', ({ rig, place }) => rig.toolstack.rm(place.backendPath)],
  ['both directories made anew', 'replaced', ({ rig, place }) => createDevice(rig.toolstack, place.id)],
  ['the toolstack takes it offline', 'offline', ({ rig, place }) => offlineDevice(rig.toolstack, place.id)],
  ['the backend stops', 'closed', async ({ backend }) => await backend[Symbol.asyncDispose]()],
];

describe.each(['native', 'register-page'] as const)('%s', (profile) => {
  const create = (backendDomain?: number): Promise<Bench> => Bench.create(profile, backendDomain);

  describe('handshake', () => {
    it('io/xenbus.h: states go 1 → 2 → 3 → 4 and 4, then 5 and 6 on both sides', async () => {
      const bench = await create();
      const { rig, place } = bench;
      const seen: string[] = [];
      await rig.settle();
      for (const [side, path] of [['f', place.frontendPath] as const, ['b', place.backendPath] as const]) {
        await rig.toolstack.watch(`${path}/state`, () => {
          void readState(rig.toolstack, path).then((state) => seen.push(`${side}${state}`));
        });
      }
      const link = await bench.connect();
      expect(await bench.states()).toBe('Connected Connected');
      await bench.exercise(link);
      await rig.run(link[Symbol.asyncDispose]());
      await rig.settle();
      expect(await bench.states()).toBe('Closed Closed');
      expect(await rig.run(rig.toolstack.directory(place.frontendPath))).toEqual([
        'backend',
        'backend-id',
        'state',
      ]);
      expect(seen.filter((state, index) => state !== seen[index - 1])).toEqual([
        'f1',
        'b2',
        'f1',
        'f3',
        'b4',
        'f4',
        'f5',
        'b5',
        'f6',
        'b6',
      ]);
      await rig.toolstack.resetWatches();
      expect(await bench.end()).toEqual([]);
    });

    it('a frontend that closed may come back, as often as it likes', async () => {
      const bench = await create();
      for (let round = 0; round < 3; round += 1) {
        const link = await bench.connect();
        await bench.exercise(link);
        await bench.rig.run(link[Symbol.asyncDispose]());
      }
      expect(await bench.end()).toEqual([]);
    });

    it('a connection attempt that fails half way is no hindrance to the next, which comes at once', async () => {
      const bench = await create();
      const { pages } = bench.place.frontend;
      for (let round = 0; round < 3; round += 1) {
        const all = pages.allocate((pages.pageCount - pages.usedPages) * pages.pageSize);
        const error: unknown = await bench.rig.run(bench.place.connect().catch((reason: unknown) => reason));
        expect(error).toMatchObject({ name: 'DmaError', code: 'ENOMEM' });
        pages.free(all, pages.pageCount * pages.pageSize);
        await bench.rig.run((await bench.connect())[Symbol.asyncDispose]());
      }
      expect(await bench.end()).toEqual([]);
    });

    it('a device with more configuration than the page carries is the caller’s mistake', async () => {
      const bench = await create();
      const device = Object.assign(new TinyDevice(), { configSize: 2049 });
      const host = new DeviceHost({ device, aio: bench.place.backend.aio });
      await expect(bench.place.serve(host)).rejects.toThrow(RangeError);
      host[Symbol.dispose]();
      expect(await bench.end()).toEqual([]);
    });

    it('a driver that takes the directory over is served, the one before is told', async () => {
      const bench = await create();
      const first = await bench.connect();
      let reason: string | undefined;
      first.transport.onGone((why) => {
        reason = why;
      });
      const second = await bench.connect();
      await bench.rig.until('the first is told', () => reason !== undefined);
      await bench.exercise(second);
      await bench.rig.run(second[Symbol.asyncDispose]());
      expect(await bench.end(first)).toEqual([]);
    });

    it('a directory that went offline is not served again to a driver that takes it over', async () => {
      const bench = await create();
      const first = await bench.connect();
      await bench.rig.run(bench.rig.toolstack.write(`${bench.place.backendPath}/online`, '0'));
      const second = bench.place.connect(200);
      await expect(bench.rig.finish(second)).rejects.toMatchObject({ code: 'ENODEV' });
      expect(await bench.rig.run(bench.backend.closed)).toBe('offline');
      expect(await bench.end(first)).toEqual([]);
    });

    it.runIf(profile === 'native')(
      'status writes that are not waited for are carried out one after the other',
      async () => {
        const bench = await create();
        const link = await bench.connect();
        const written: number[] = [];
        const writeStatus = bench.host.writeStatus.bind(bench.host);
        bench.host.writeStatus = (status) => {
          written.push(status);
          writeStatus(status);
        };
        await bench.rig.run(Promise.all([0, 1, 3].map((status) => link.transport.writeStatus(status))));
        expect(written).toEqual([0, 1, 3]);
        expect(await link.transport.readStatus()).toBe(3);
        const line = await bench.rig.run(
          bench.rig.toolstack.readText(`${bench.place.backendPath}/device-status`),
        );
        expect(line).toBe('3 3');
        expect(await bench.end(link)).toEqual([]);
      },
    );

    it('without a backend it times out, and nothing is held', async () => {
      const rig = new XenRig();
      const place = new RigDevice(rig, await rig.addDomain(1), await rig.addDomain(0), 0, profile);
      await place.plug();
      await expect(rig.finish(place.connect(300))).rejects.toMatchObject({
        name: 'TransportError',
        code: 'ETIMEDOUT',
      });
      expect(rig.leaks()).toEqual([]);
    });

    it('without a directory it is ENODEV', async () => {
      const rig = new XenRig();
      const place = new RigDevice(rig, await rig.addDomain(1), await rig.addDomain(0), 0, profile);
      await expect(rig.run(place.connect())).rejects.toMatchObject({
        name: 'TransportError',
        code: 'ENODEV',
      });
      await expect(
        rig.run(place.serve(new DeviceHost({ device: new TinyDevice(), aio: place.backend.aio }))),
      ).rejects.toMatchObject({
        name: 'XenbusError',
        code: 'ENOENT',
      });
    });

    it('configuration is there before the driver writes any status, and follows the device', async () => {
      const bench = await create();
      const link = await bench.connect();
      const ring = new RawRing(link.dma);
      const bytes = new Uint8Array(8);
      await bench.rig.run(link.transport.readConfigBytes(0, bytes));
      expect([...bytes]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
      await bench.rig.run(bringUp(link, ring));
      let toldCount = 0;
      link.transport.onConfigChange(() => {
        toldCount += 1;
      });
      bench.device.config.fill(9);
      bench.device.announceConfig();
      await bench.rig.until('told', () => toldCount === 1);
      await bench.rig.run(link.transport.readConfigBytes(2, bytes.subarray(0, 3)));
      expect([...bytes.subarray(0, 3)]).toEqual([9, 9, 9]);
      const generation = await bench.rig.run(link.transport.readConfigGeneration());
      expect(profile === 'native' ? generation % 2 : 0).toBe(0);
      await bench.rig.run(link.transport.writeStatus(0));
      ring.free();
      expect(await bench.end(link)).toEqual([]);
    });

    it('writes to the configuration arrive whole and in order, and beyond its end are the caller’s mistake', async () => {
      const bench = await create();
      const link = await bench.connect();
      const writes = [0, 3, 5].map((at) =>
        link.transport.writeConfigBytes(at, Uint8Array.of(at + 100, at + 101)),
      );
      await bench.rig.run(Promise.all(writes));
      expect([...bench.device.config]).toEqual([100, 101, 3, 103, 104, 105, 106, 8]);
      await expect(link.transport.writeConfigBytes(7, new Uint8Array(2))).rejects.toThrow(RangeError);
      await expect(link.transport.readConfigBytes(-1, new Uint8Array(2))).rejects.toThrow(RangeError);
      expect(await bench.end(link)).toEqual([]);
    });

    it('enabling a queue twice, or one that does not exist, is the caller’s mistake', async () => {
      const bench = await create();
      const link = await bench.connect();
      const ring = new RawRing(link.dma);
      await bench.rig.run(bringUp(link, ring));
      await expect(link.transport.enableQueue(0, ring.addresses)).rejects.toThrow(TypeError);
      await expect(link.transport.enableQueue(1, ring.addresses)).rejects.toThrow(RangeError);
      expect(() => link.transport.onCall(1, undefined)).toThrow(RangeError);
      await bench.rig.run(link.transport.writeStatus(0));
      ring.free();
      expect(await bench.end(link)).toEqual([]);
    });
  });

  describe('a device that goes away', () => {
    it.each(LOSSES)('%s: the driver is told once, everything comes back', async (_, reason, lose) => {
      const bench = await create();
      const link = await bench.connect();
      const ring = new RawRing(link.dma);
      await bench.rig.run(bringUp(link, ring));
      const told: string[] = [];
      link.transport.onGone((why) => told.push(why));
      await bench.rig.run(lose(bench));
      expect(await bench.rig.run(bench.backend.closed)).toBe(reason);
      await bench.rig.until('the driver is told', () => told.length === 1);
      await expect(link.transport.writeStatus(0)).rejects.toMatchObject({ code: 'ENODEV' });
      await expect(link.transport.readStatus()).rejects.toMatchObject({ code: 'ENODEV' });
      link.transport.kick(0);
      await bench.rig.settle();
      expect(ring.free()).toBe(true);
      expect(await bench.end(link)).toEqual([]);
      expect(told).toHaveLength(1);
    });

    it('the backend loses xenstore: it lets go, and the driver’s next question times out', async () => {
      const bench = await create();
      const link = await bench.connect();
      const ring = new RawRing(link.dma);
      await bench.rig.run(bringUp(link, ring));
      bench.place.backend.store.close();
      expect(await bench.rig.run(bench.backend.closed)).toBe('xenstore lost');
      expect(ring.free()).toBe(true);
      await expect(bench.rig.finish(link.transport.writeStatus(1))).rejects.toMatchObject({
        code: 'ETIMEDOUT',
      });
      await bench.rig.finish(link[Symbol.asyncDispose]());
      expect(await bench.end()).toEqual([]);
    });

    it('its domain is killed: the driver is told once, everything comes back', async () => {
      const bench = await create(2);
      const link = await bench.connect();
      const ring = new RawRing(link.dma);
      await bench.rig.run(bringUp(link, ring));
      const told: string[] = [];
      link.transport.onGone((why) => told.push(why));
      bench.rig.kill(bench.place.backend);
      await bench.rig.until('the driver is told', () => told.length === 1);
      expect(ring.free()).toBe(true);
      await bench.rig.run(link[Symbol.asyncDispose]());
      expect(bench.rig.leaks()).toEqual([]);
    });

    it('onGone waits until the device touches no memory any more', async () => {
      const bench = await create();
      const link = await bench.connect();
      const ring = new RawRing(link.dma);
      await bench.rig.run(bringUp(link, ring));
      const drained = Promise.withResolvers<void>();
      bench.device.draining = drained.promise;
      const told: string[] = [];
      link.transport.onGone((why) => told.push(why));
      await bench.rig.run(bench.place.unplug());
      for (let round = 0; round < 20; round += 1) await bench.rig.settle();
      await expect(link.transport.readStatus()).rejects.toMatchObject({ code: 'ENODEV' });
      expect(told).toEqual([]);
      drained.resolve();
      await bench.rig.until('the driver is told', () => told.length === 1);
      expect(ring.free()).toBe(true);
      expect(await bench.end(link)).toEqual([]);
    });

    it('a driver that asks for the end of a device that is already gone is told', async () => {
      const bench = await create();
      const link = await bench.connect();
      await bench.rig.run(bench.place.unplug());
      await bench.rig.run(bench.backend.closed);
      await bench.rig.settle();
      const told: string[] = [];
      link.transport.onGone((why) => told.push(why));
      await bench.rig.until('told', () => told.length === 1);
      expect(await bench.end(link)).toEqual([]);
    });
  });

  describe('a driver that goes away', () => {
    it('whose domain is killed: the backend lets go of everything and ends', async () => {
      const bench = await create(2);
      const link = await bench.connect();
      await bench.rig.run(bringUp(link, new RawRing(link.dma)));
      expect(bench.device.isActive).toBe(true);
      bench.rig.kill(bench.place.frontend);
      expect(await bench.rig.run(bench.backend.closed)).toBe('frontend gone');
      expect(bench.device.isActive).toBe(false);
      expect(bench.backend.state).toBe(XenbusState.Closed);
      expect(await bench.end()).toEqual([]);
    });

    it('that loses xenstore is told, and when it closes nothing is held but what the backend still maps', async () => {
      const bench = await create();
      const link = await bench.connect();
      const told: string[] = [];
      link.transport.onGone((why) => told.push(why));
      bench.place.frontend.store.close();
      await bench.rig.simulation.run();
      expect(told).toHaveLength(1);
      await bench.rig.finish(bench.backend[Symbol.asyncDispose]());
      await bench.rig.run(link[Symbol.asyncDispose]());
      expect(await bench.end()).toEqual([]);
    });

    it('that closes while the device is live has it reset', async () => {
      const bench = await create();
      const link = await bench.connect();
      const ring = new RawRing(link.dma);
      await bench.rig.run(bringUp(link, ring));
      expect(await bench.rig.run(link.transport.readStatus())).toBe(STATUS_DRIVER_OK);
      await bench.rig.run(link[Symbol.asyncDispose]());
      expect(bench.device.isActive).toBe(false);
      expect(ring.free()).toBe(true);
      expect(await bench.end()).toEqual([]);
    });
  });
});
