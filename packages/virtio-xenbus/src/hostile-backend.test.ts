import { XenbusState } from '@virtlab/abi/xenbus';
import { VIRTIO_XENBUS_CONFIG_PAGE } from '@virtlab/abi/virtio-xenbus';
import { DeviceHost, type DriverLink, TransportError } from '@virtlab/virtio';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { VirtioXenbusBackend } from './backend-contract.ts';
import { connectVirtioXenbus } from './connect.ts';
import { bringUp, negotiate } from './testing/drive.ts';
import { overriding } from './testing/overriding.ts';
import { garbage } from './testing/garbage.ts';
import { RawRing } from './testing/raw-ring.ts';
import { RigDevice } from './testing/rig-device.ts';
import { TinyDevice } from './testing/tiny-device.ts';
import { XenRig } from './testing/xen-rig.ts';

const AT = VIRTIO_XENBUS_CONFIG_PAGE.offset;
const TIMEOUT_MS = 200;

const OFFER: Readonly<Record<string, string>> = {
  type: 'virtio,device2a',
  transport: 'xenbus',
  profile: 'native',
  'device-features': '0x0000000300000001',
  'queue-count': '1',
  'queue-0/size-max': '8',
  'config-size': '8',
  'device-status': '0 0',
  state: String(XenbusState.InitWait),
};

async function plugged(): Promise<RigDevice> {
  const rig = new XenRig({ ramPages: 32 });
  const place = new RigDevice(rig, await rig.addDomain(1), await rig.addDomain(2));
  await place.plug();
  return place;
}

/** Writes an offer by hand, as a backend that says what it likes. */
async function offer(place: RigDevice, lies: Readonly<Record<string, string | Uint8Array>>): Promise<void> {
  for (const [key, value] of Object.entries(OFFER)) {
    await place.rig.run(place.backend.store.write(`${place.backendPath}/${key}`, lies[key] ?? value));
  }
}

interface Live {
  readonly place: RigDevice;
  readonly host: DeviceHost;
  readonly backend: VirtioXenbusBackend;
  readonly link: DriverLink;
  readonly told: string[];
}

async function connected(): Promise<Live> {
  const place = await plugged();
  const host = new DeviceHost({ device: new TinyDevice(), aio: place.backend.aio });
  const backend = await place.rig.run(place.serve(host));
  const link = await place.rig.run(place.connect(TIMEOUT_MS));
  const told: string[] = [];
  link.transport.onGone((reason) => told.push(reason));
  return { place, host, backend, link, told };
}

/** Where the configuration page of the live device lies in the frontend's memory. */
async function pageOffset({ place }: Live): Promise<number> {
  const { rig, frontend, frontendPath } = place;
  const ref = Number(await rig.run(rig.toolstack.readText(`${frontendPath}/config-ref`)));
  return frontend.grants.live().find((each) => each.ref === ref)!.frame * 4096;
}

async function end({ place, host, backend, link }: Live): Promise<void> {
  const { rig } = place;
  await rig.finish(link[Symbol.asyncDispose]());
  await rig.finish(backend[Symbol.asyncDispose]());
  host[Symbol.dispose]();
  expect(rig.leaks()).toEqual([]);
}

describe('a backend that offers nonsense', () => {
  it.each(Object.keys(OFFER))(
    '%s: the driver is refused with TransportError, and holds nothing',
    async (key) => {
      await fc.assert(
        fc.asyncProperty(garbage, async (value) => {
          const place = await plugged();
          const { rig } = place;
          await offer(place, { [key]: value });
          const error: unknown = await rig
            .finish(place.connect(TIMEOUT_MS))
            .catch((reason: unknown) => reason);
          expect(error).toBeInstanceOf(TransportError);
          expect(rig.leaks()).toEqual([]);
        }),
        { numRuns: 40 },
      );
    },
  );

  it.each([
    ['type', 'virtio,device'],
    ['type', 'vif'],
    ['transport', 'mmio'],
    ['profile', 'registers'],
    ['device-features', '0x1ffffffffffffffff'],
    ['queue-count', '1025'],
    ['queue-0/size-max', '32769'],
    ['config-size', '2049'],
    ['config-size', '8.0'],
  ])('%s = %s is EPROTO, said in the place for errors and as Closed', async (key, value) => {
    const place = await plugged();
    const { rig } = place;
    await offer(place, { [key]: value });
    const error: unknown = await rig.finish(place.connect(TIMEOUT_MS)).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'EPROTO' });
    const report = await rig.run(rig.toolstack.readText('/local/domain/1/error/device/virtio/0/error'));
    expect(report).toContain(key);
    expect(await rig.run(rig.toolstack.readText(`${place.frontendPath}/state`))).toBe(
      String(XenbusState.Closed),
    );
    expect(rig.leaks()).toEqual([]);
  });

  it('a page of another size than offered is EPROTO', async () => {
    const place = await plugged();
    const { rig } = place;
    await offer(place, {});
    const connecting = place.connect(TIMEOUT_MS).catch((reason: unknown) => reason);
    await rig.settle();
    await rig.run(place.backend.store.write(`${place.backendPath}/state`, String(XenbusState.Connected)));
    expect(await rig.finish(connecting)).toMatchObject({ code: 'EPROTO' });
    expect(rig.leaks()).toEqual([]);
  });
});

describe('a backend that is slow', () => {
  it('an attempt that fails is over only when the backend has seen it: the next may follow at once', async () => {
    const place = await plugged();
    const { rig, frontend, backend } = place;
    await offer(place, {});
    const { pages } = frontend;
    const all = pages.allocate(pages.pageCount * pages.pageSize);
    let isOver = false;
    const attempt = place.connect(TIMEOUT_MS).catch((error: unknown) => {
      isOver = true;
      return error;
    });
    await rig.settle();
    expect(await rig.run(rig.toolstack.readText(`${place.frontendPath}/state`))).toBe(
      String(XenbusState.Closing),
    );
    expect(isOver).toBe(false);
    await rig.run(backend.store.write(`${place.backendPath}/state`, String(XenbusState.Closing)));
    expect(await rig.run(attempt)).toMatchObject({ code: 'ENOMEM' });
    pages.free(all, pages.pageCount * pages.pageSize);
    expect(rig.leaks()).toEqual([]);
  });

  it('a port that the hypervisor gives too late is given back', async () => {
    const place = await plugged();
    const { rig, frontend } = place;
    await offer(place, {});
    const late = Promise.withResolvers<void>();
    const events = overriding(frontend.events, {
      allocUnbound: async (remote) => {
        await late.promise;
        return await frontend.events.allocUnbound(remote);
      },
    });
    const { store, grants, memory, pages, aio } = frontend;
    const path = place.frontendPath;
    const options = { store, path, events, grants, memory, pages, aio, timeoutMs: TIMEOUT_MS };
    await expect(rig.finish(connectVirtioXenbus(options))).rejects.toMatchObject({ code: 'ETIMEDOUT' });
    late.resolve();
    await rig.settle();
    expect(rig.leaks()).toEqual([]);
  });
});

describe('a backend that breaks off', () => {
  it('device-status: whatever it says, an operation ends and the device is over or goes on', async () => {
    await fc.assert(
      fc.asyncProperty(garbage, async (value) => {
        const live = await connected();
        const { rig, backend, backendPath } = live.place;
        await rig.run(backend.store.write(`${backendPath}/device-status`, value));
        const error: unknown = await rig
          .finish(live.link.transport.writeStatus(1))
          .catch((reason: unknown) => reason);
        expect(error === undefined || error instanceof TransportError).toBe(true);
        await end(live);
      }),
      { numRuns: 60 },
    );
  });

  it('device-queue: whatever it says, the reset of a queue ends and the device is over or goes on', async () => {
    await fc.assert(
      fc.asyncProperty(garbage, async (value) => {
        const live = await connected();
        const { rig, backend, backendPath } = live.place;
        const ring = new RawRing(live.link.dma);
        await rig.run(bringUp(live.link, ring));
        const resetting = live.link.transport.resetQueue(0).catch((reason: unknown) => reason);
        await rig.run(backend.store.write(`${backendPath}/device-queue/0`, value));
        const error: unknown = await rig.finish(resetting);
        expect(error === undefined || error instanceof TransportError).toBe(true);
        await rig.finish(live.link[Symbol.asyncDispose]());
        expect(ring.free()).toBe(true);
        await end(live);
      }),
      { numRuns: 60 },
    );
  });

  it('nonsense for an answer rejects the question with EPROTO, later ones with ENODEV, and onGone runs', async () => {
    const live = await connected();
    const { place, backend, told, link } = live;
    const { rig } = place;
    await rig.run(backend[Symbol.asyncDispose]());
    await rig.settle();
    expect(told).toHaveLength(1);
    await expect(link.transport.readStatus()).rejects.toMatchObject({ code: 'ENODEV' });
    await end(live);

    const other = await connected();
    const waiting = other.link.transport.writeStatus(1).catch((reason: unknown) => reason);
    void other.place.backend.store.write(`${other.place.backendPath}/device-status`, 'never mind');
    const first = await other.place.rig.finish(waiting);
    expect(first === undefined || (first as TransportError).code === 'EPROTO').toBe(true);
    await other.place.rig.until('told', () => other.told.length === 1);
    await expect(other.link.transport.writeStatus(0)).rejects.toMatchObject({ code: 'ENODEV' });
    await end(other);
  });

  it('a status in the page that is none is EPROTO', async () => {
    const live = await connected();
    const page = await pageOffset(live);
    live.place.frontend.memory.u32[(page + AT.device_status) / 4] = 0x1_00;
    await expect(live.link.transport.readStatus()).rejects.toMatchObject({ code: 'EPROTO' });
    await live.place.rig.until('told', () => live.told.length === 1);
    await end(live);
  });

  it('a generation that stays odd times out', async () => {
    const live = await connected();
    const page = await pageOffset(live);
    live.place.frontend.memory.u32[(page + AT.generation) / 4] = 7;
    const reading = live.link.transport.readConfigBytes(0, new Uint8Array(4));
    await expect(live.place.rig.finish(reading)).rejects.toMatchObject({ code: 'ETIMEDOUT' });
    await end(live);
  });

  it('a configuration write that is not taken times out, and so do those behind it', async () => {
    const live = await connected();
    const page = await pageOffset(live);
    live.place.frontend.memory.u32[(page + AT.write_sequence) / 4] = 0;
    live.place.rig.ports.removeDomain(live.place.backend.id);
    const writes = [0, 4].map((at) =>
      live.link.transport.writeConfigBytes(at, new Uint8Array(4)).catch((reason: unknown) => reason),
    );
    const errors = await live.place.rig.finish(Promise.all(writes));
    expect(errors).toMatchObject([{ code: 'ETIMEDOUT' }, { code: 'ETIMEDOUT' }]);
  });

  it('a status write that is not answered times out', async () => {
    const place = await plugged();
    const host = new DeviceHost({ device: new TinyDevice(), aio: place.backend.aio });
    await place.rig.run(place.serve(host));
    const link = await place.rig.run(place.connect(TIMEOUT_MS));
    const ring = new RawRing(link.dma);
    await place.rig.run(negotiate(link));
    host.writeStatus = () => {};
    Object.defineProperty(host, 'status', { get: () => 11 });
    const resetting = link.transport.writeStatus(0).catch((reason: unknown) => reason);
    expect(await place.rig.finish(resetting)).toMatchObject({ code: 'ETIMEDOUT' });
    ring.free();
  });

  it('a backend that keeps a page: it is not used again, and the end of the link is bounded', async () => {
    const live = await connected();
    const { place, link } = live;
    const { rig, frontend, backend } = place;
    const ring = new RawRing(link.dma);
    await rig.run(bringUp(link, ring));
    const handle = backend.grantMapper.map(frontend.id, (ring.area.addressLow >>> 12) as never, true);
    await rig.run(link.transport.writeStatus(0));
    expect(ring.free()).toBe(false);
    await rig.finish(link[Symbol.asyncDispose]());
    expect(frontend.pages.usedPages).toBe(1);
    expect(frontend.grants.live()).toHaveLength(1);
    backend.grantMapper.unmap(handle as never);
    expect(link.dma.allocate(4096)).not.toBe(ring.area.offset);
    expect(frontend.grants.live()).toEqual([]);
  });
});
