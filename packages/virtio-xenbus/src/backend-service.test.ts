import type { VirtioDevice } from '@virtlab/virtio';
import { type DeviceId, createDevice, offlineDevice } from '@virtlab/xenbus';
import { describe, expect, it } from 'vitest';
import { type VirtioBackends, watchVirtioBackends } from './backend-service.ts';
import { bringUp } from './testing/drive.ts';
import { RawRing } from './testing/raw-ring.ts';
import { RigDevice } from './testing/rig-device.ts';
import type { RigDomain } from './testing/rig-domain.ts';
import { TinyDevice } from './testing/tiny-device.ts';
import { XenRig } from './testing/xen-rig.ts';

class Bench {
  readonly rig = new XenRig();
  readonly frontend: RigDomain;
  readonly backend: RigDomain;
  readonly service: VirtioBackends;
  readonly devices: Map<string, TinyDevice>;
  readonly closed: string[];

  constructor(rig: XenRig, frontend: RigDomain, backend: RigDomain, service: VirtioBackends, log: Log) {
    this.rig = rig;
    this.frontend = frontend;
    this.backend = backend;
    this.service = service;
    this.devices = log.devices;
    this.closed = log.closed;
  }

  static async create(choose: Choose = () => new TinyDevice()): Promise<Bench> {
    const rig = new XenRig();
    const frontend = await rig.addDomain(1);
    const backend = await rig.addDomain(2);
    const log: Log = { devices: new Map(), closed: [] };
    const service = await rig.run(
      watchVirtioBackends({
        store: backend.store,
        domain: backend.id,
        events: backend.events,
        grantMapper: backend.grantMapper,
        mapDomain: backend.mapDomain,
        aio: backend.aio,
        createDevice: (id, keys) => {
          const device = choose(id, keys);
          if (device instanceof TinyDevice) log.devices.set(key(id), device);
          return device;
        },
        onClosed: (id, _device, reason) => log.closed.push(`${key(id)} ${reason}`),
      }),
    );
    return new Bench(rig, frontend, backend, service, log);
  }

  place(index: number, frontend: RigDomain = this.frontend): RigDevice {
    return new RigDevice(this.rig, frontend, this.backend, index);
  }

  /** Connects, runs one buffer through the device, disconnects. */
  async exercise(place: RigDevice): Promise<number> {
    const link = await this.rig.run(place.connect());
    const ring = new RawRing(link.dma);
    await this.rig.run(bringUp(link, ring));
    const device = this.devices.get(key(place.id))!;
    const before = device.doneCount;
    ring.add(ring.addresses.descriptorArea, 16);
    link.transport.kick(0);
    await this.rig.until('the buffer is done', () => device.doneCount > before);
    await this.rig.run(link.transport.writeStatus(0));
    ring.free();
    await this.rig.run(link[Symbol.asyncDispose]());
    return device.doneCount - before;
  }

  async end(): Promise<readonly string[]> {
    await this.rig.run(this.service[Symbol.asyncDispose]());
    return this.rig.leaks();
  }
}

interface Log {
  readonly devices: Map<string, TinyDevice>;
  readonly closed: string[];
}

type Choose = (id: DeviceId, keys: ReadonlyMap<string, string>) => VirtioDevice | undefined;

function key({ frontendDomain, index }: DeviceId): string {
  return `${frontendDomain}/${index}`;
}

describe('watchVirtioBackends', () => {
  it('serves devices that are there, and those that come', async () => {
    const bench = await Bench.create();
    const places = [bench.place(0), bench.place(1), bench.place(7)];
    for (const place of places) await place.plug();
    for (const place of places) expect(await bench.exercise(place)).toBe(1);
    expect(bench.service.backends.map(({ path }) => path)).toEqual(
      places.map(({ backendPath }) => backendPath),
    );
    expect(await bench.end()).toEqual([]);
    expect(bench.closed).toEqual(['1/0 closed', '1/1 closed', '1/7 closed']);
  });

  it('lets go of a device whose directory vanishes, while others live on', async () => {
    const bench = await Bench.create();
    const [gone, stays] = [bench.place(0), bench.place(1)];
    await gone.plug();
    await stays.plug();
    const link = await bench.rig.run(gone.connect());
    await bench.rig.run(gone.unplug());
    await bench.rig.run(bench.service.idle());
    expect(bench.closed).toEqual(['1/0 removed']);
    expect(bench.service.backends.map(({ path }) => path)).toEqual([stays.backendPath]);
    expect(await bench.exercise(stays)).toBe(1);
    await bench.rig.run(link[Symbol.asyncDispose]());
    expect(await bench.end()).toEqual([]);
  });

  it('serves a directory that is made anew, with a new device', async () => {
    const bench = await Bench.create();
    const place = bench.place(0);
    await place.plug();
    expect(await bench.exercise(place)).toBe(1);
    const first = bench.devices.get('1/0');
    await bench.rig.run(createDevice(bench.rig.toolstack, place.id));
    expect(await bench.exercise(place)).toBe(1);
    expect(bench.devices.get('1/0')).not.toBe(first);
    expect(bench.closed).toEqual(['1/0 replaced']);
    await bench.rig.run(offlineDevice(bench.rig.toolstack, place.id));
    await bench.rig.until('offline', () => bench.closed.length === 2);
    await bench.rig.run(createDevice(bench.rig.toolstack, place.id));
    expect(await bench.exercise(place)).toBe(1);
    expect(await bench.end()).toEqual([]);
    expect(bench.closed).toEqual(['1/0 replaced', '1/0 offline', '1/0 closed']);
  });

  it('serves a domain that takes the place of one that was killed', async () => {
    const bench = await Bench.create();
    const place = bench.place(0);
    await place.plug();
    const link = await bench.rig.run(place.connect());
    await bench.rig.run(bringUp(link, new RawRing(link.dma)));
    bench.rig.kill(bench.frontend);
    await bench.rig.until('let go', () => bench.closed.length === 1);
    expect(bench.backend.leaks()).toEqual([]);
    await bench.rig.run(place.unplug());
    const next = bench.place(0, await bench.rig.addDomain(3));
    await next.plug();
    expect(await bench.exercise(next)).toBe(1);
    expect(await bench.end()).toEqual([]);
  });

  it('gives the toolstack’s keys to the choice of the device, which may be none', async () => {
    const seen: (string | undefined)[] = [];
    const bench = await Bench.create((_id, keys) => {
      seen.push(keys.get('type'));
      return keys.get('type') === 'virtio,device2a' ? new TinyDevice() : undefined;
    });
    const wanted = bench.place(0);
    const other = bench.place(1);
    await createDevice(bench.rig.toolstack, { ...wanted.id, backendKeys: { type: 'virtio,device2a' } });
    await createDevice(bench.rig.toolstack, { ...other.id, backendKeys: { type: 'virtio,device1' } });
    expect(await bench.exercise(wanted)).toBe(1);
    expect(seen).toEqual(['virtio,device2a', 'virtio,device1']);
    expect(bench.service.backends).toHaveLength(1);
    expect(await bench.end()).toEqual([]);
  });

  it('ends although xenstore is lost', async () => {
    const bench = await Bench.create();
    const place = bench.place(0);
    await place.plug();
    const link = await bench.rig.run(place.connect(200));
    await createDevice(bench.rig.toolstack, bench.place(1).id);
    bench.backend.store.close();
    await bench.rig.until('let go', () => bench.closed.includes('1/0 xenstore lost'));
    await bench.rig.run(bench.service[Symbol.asyncDispose]());
    await bench.rig.finish(link[Symbol.asyncDispose]());
    expect(bench.rig.leaks()).toEqual([]);
  });

  it('leaves alone what is no device', async () => {
    const bench = await Bench.create();
    const { toolstack } = bench.rig;
    for (const path of ['x/0', '1/x', '99999/0', '1/0/state/deep']) {
      await toolstack.write(`/local/domain/2/backend/virtio/${path}/state`, '1');
    }
    await toolstack.write('/local/domain/2/backend/virtio/1/5/state', '1');
    await bench.rig.settle();
    expect(bench.service.backends).toEqual([]);
    const place = bench.place(3);
    await place.plug();
    expect(await bench.exercise(place)).toBe(1);
    expect(await bench.end()).toEqual([]);
  });
});
