import { VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1, featureBit, hasFeature } from '@virtlab/abi/virtio';
import { createNodeAioContext } from '@virtlab/aio/node';
import { closeFd, memfdCreate, socketPair } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { DeviceHost, RING_FEATURES, initializeDevice } from '@virtlab/virtio';
import type { DriverSession } from '@virtlab/virtio';
import { createBufferList } from '@virtlab/virtio/testing';
import { expect, it } from 'vitest';
import { type VhostUserLink, connectVhostUser } from './frontend-connect.ts';
import { vhostUserStream } from './listen.ts';
import { VHOST_USER_FRONTEND_FEATURES } from './frontend-options.ts';
import { REQUESTS } from './messages.ts';
import type { VringAddresses } from './payload-memory.ts';
import { U64 } from './payload-codec.ts';
import { serveVhostUser } from './serve.ts';
import { type FrontendBench, until, withFrontend } from './testing/frontend-bench.ts';
import { HeldDevice } from './testing/held-device.ts';

const PAGE = 4096;
const CONTEXT = { queueCount: 256, hasXenMmap: false };
const OWN = 0x1_0000_0000n;
const VERSION_1 = featureBit(VIRTIO_F_VERSION_1);
const PACKED = featureBit(VIRTIO_F_RING_PACKED);
const WITHOUT_SLOTS = { protocolFeatures: ['REPLY_ACK'] } as const;
const PAUSE = ['GET_VRING_BASE', 'SET_VRING_ENABLE', 'SET_MEM_TABLE'];
const START = ['SET_VRING_NUM', 'SET_VRING_BASE', 'SET_VRING_ADDR', 'SET_VRING_ERR', 'SET_VRING_CALL'];
const RESUME = [...START, 'SET_VRING_KICK', 'SET_VRING_ENABLE'];

async function start({ connect, aio, device }: FrontendBench, wanted = 0n) {
  const link = await connect();
  const session = await initializeDevice(link, { aio, wanted, queueSizeMax: 8, polling: false });
  device.takeNames();
  return { link, session };
}

/** Requests that begin with their tag, which is also their token. */
function send(link: VhostUserLink, session: DriverSession, ...tags: readonly number[]): void {
  for (const tag of tags) {
    const at = link.dma.allocate(64);
    link.dma.memory.u8[at] = tag;
    const list = createBufferList();
    list.addReadable(at, 8);
    list.addWritable(at + 8, 8);
    session.queues[0]!.add(list, tag);
  }
  session.kick(0);
}

async function lend(link: VhostUserLink): Promise<Disposable> {
  const fd = memfdCreate('caller', PAGE);
  try {
    return await link.mapMemory(fd, 0, PAGE);
  } finally {
    closeFd(fd);
  }
}

/** The device of `bench` says that its ring stands at `num`. */
function standAt({ device }: FrontendBench, num: number): void {
  device.scripts.set('GET_VRING_BASE', () =>
    REQUESTS.GET_VRING_BASE.payload.encode({ index: 0, num }, CONTEXT),
  );
}

function refuse({ device }: FrontendBench, name: 'SET_MEM_TABLE' | 'SET_VRING_BASE'): void {
  device.scripts.set(name, () => U64.encode(1n, CONTEXT));
}

describeWithFfi('driver role: rings that a device stopped before it was done', () => {
  it.each([
    { ring: 'split', withheld: [] },
    { ring: 'split', withheld: ['INFLIGHT_SHMFD'] },
    { ring: 'packed', withheld: [] },
    { ring: 'packed', withheld: ['INFLIGHT_SHMFD'] },
  ] as const)('$ring, without $withheld: each request is answered once', async ({ ring, withheld }) => {
    const aio = createNodeAioContext();
    const [driverFd, deviceFd] = socketPair();
    const device = new HeldDevice(1);
    const host = new DeviceHost({ device, aio });
    const backend = serveVhostUser(vhostUserStream(deviceFd), { host, aio, drainTimeoutMs: 1 });
    const without = new Set<string>(['CONFIGURE_MEM_SLOTS', ...withheld]);
    const link = await connectVhostUser({
      fd: driverFd,
      aio,
      deviceType: device.deviceType,
      queueSizeMax: 16,
      memorySize: 1 << 20,
      protocolFeatures: VHOST_USER_FRONTEND_FEATURES.filter((feature) => !without.has(feature)),
    });
    const wanted = ring === 'packed' ? RING_FEATURES | PACKED : RING_FEATURES & ~PACKED;
    const session = await initializeDevice(link, { aio, wanted });
    expect(hasFeature(session.features, VIRTIO_F_RING_PACKED)).toBe(ring === 'packed');
    const got: number[] = [];
    session.onCall(0, () => {
      const queue = session.queues[0]!;
      for (let tag = queue.popUsed(); tag >= 0; tag = queue.popUsed()) got.push(tag);
    });
    send(link, session, 1, 2, 3, 4);
    await until(() => device.heldCount === 4);
    device.finish(3);
    await until(() => got.length === 1);
    await lend(link);
    await until(() => device.heldCount === 3);
    device.finish();
    await until(() => got.length === 4 || session.broken !== undefined);
    expect([got, device.taken, session.broken]).toEqual([[3, 1, 2, 4], [1, 2, 3, 4, 1, 2, 4], undefined]);
    await session.stop();
    await link[Symbol.asyncDispose]();
    await backend.close();
    host[Symbol.dispose]();
    aio[Symbol.dispose]();
  });

  it('GET_VRING_BASE: one that remembers what it took is told back where it stood', async () => {
    await withFrontend(WITHOUT_SLOTS, async (bench) => {
      const { link, session } = await start(bench);
      send(link, session, 1, 2, 3);
      standAt(bench, 2);
      await lend(link);
      expect(bench.device.payloads.get('SET_VRING_BASE')).toEqual({ index: 0, num: 2 });
      expect(session.broken).toBeUndefined();
      await session.stop();
    });
  });

  it('GET_VRING_BASE: to one that stands at the used index everything else is available again', async () => {
    await withFrontend(WITHOUT_SLOTS, async (bench) => {
      const { link, session } = await start(bench);
      send(link, session, 1, 2, 3);
      const ring = bench.device.payloads.get('SET_VRING_ADDR') as VringAddresses;
      const { u16, u32 } = link.dma.memory;
      const available = Number(ring.driverArea - OWN) / 2;
      const used = Number(ring.deviceArea - OWN);
      const [first, second, third] = u16.subarray(available + 2, available + 5);
      u32.set([third!, 0], (used + 4) / 4);
      u16[used / 2 + 1] = 1;
      standAt(bench, 1);
      await lend(link);
      expect(bench.device.payloads.get('SET_VRING_BASE')).toEqual({ index: 0, num: 1 });
      expect([...u16.subarray(available + 3, available + 5)]).toEqual([first, second]);
      await session.stop();
    });
  });

  it('GET_VRING_BASE: a packed ring goes on exactly where its device says', async () => {
    await withFrontend({ ...WITHOUT_SLOTS, features: VERSION_1 | PACKED }, async (bench) => {
      const { link, session } = await start(bench, PACKED);
      send(link, session, 1, 2, 3);
      standAt(bench, 0x8000_8001);
      await lend(link);
      expect(bench.device.payloads.get('SET_VRING_BASE')).toEqual({ index: 0, num: 0x8000_8001 });
      await session.stop();
    });
  });

  it('GET_VRING_BASE: more than a ring ahead of the used index is EPROTO, and the device is gone', async () => {
    await withFrontend(WITHOUT_SLOTS, async (bench) => {
      const { link, session } = await start(bench);
      standAt(bench, 9);
      await expect(lend(link)).rejects.toThrow(/^EPROTO: reply to GET_VRING_BASE: index 9, not 0 or/);
      await until(() => session.broken !== undefined);
      expect(session.broken).toMatch(/GET_VRING_BASE: index 9/);
      await session.stop();
    });
  });
});

describeWithFfi('driver role: a change for which the rings stand still', () => {
  it('that the device refuses is EIO, and the rings go on', async () => {
    await withFrontend(WITHOUT_SLOTS, async (bench) => {
      const { link, session } = await start(bench);
      refuse(bench, 'SET_MEM_TABLE');
      await expect(lend(link)).rejects.toMatchObject({ code: 'EIO' });
      expect(bench.device.takeNames()).toEqual([...PAUSE, ...RESUME]);
      expect(session.broken).toBeUndefined();
      await session.stop();
    });
  });

  it('after which they cannot, makes the device gone, which is told', async () => {
    await withFrontend(WITHOUT_SLOTS, async (bench) => {
      const { link, session } = await start(bench);
      refuse(bench, 'SET_VRING_BASE');
      await expect(lend(link)).rejects.toMatchObject({ code: 'EIO' });
      await until(() => session.broken !== undefined);
      expect(session.broken).toMatch(/stopped rings do not go on: .*SET_VRING_BASE was refused/);
      await session.stop();
    });
  });

  it('does not start the rings of a driver that is stopping, whose link serves the next', async () => {
    await withFrontend(WITHOUT_SLOTS, async (bench) => {
      const { link, session } = await start(bench);
      const lending = lend(link);
      await session.stop();
      await lending;
      expect(bench.device.takeNames()).not.toContain('SET_VRING_KICK');
      const next = await initializeDevice(link, {
        aio: bench.aio,
        wanted: 0n,
        queueSizeMax: 8,
        polling: false,
      });
      expect(next.broken).toBeUndefined();
      await next.stop();
    });
  });
});

describeWithFfi('driver role: a link that is disposed', () => {
  it.each([...new Set([...PAUSE, ...RESUME])])(
    'beside a region that is given back, at %s, disturbs nobody',
    async (name) => {
      await withFrontend(WITHOUT_SLOTS, async (bench) => {
        const { link, session } = await start(bench);
        const lent = await lend(link);
        const { promise, resolve } = Promise.withResolvers<void>();
        bench.device.scripts.set(name as never, (_, usual) => {
          resolve(link[Symbol.asyncDispose]());
          return usual;
        });
        lent[Symbol.dispose]();
        await promise;
        expect(session.broken).toBe('device gone: the link was disposed');
        await session.stop();
      });
    },
  );

  it('waits for what is under way no longer than for an answer', async () => {
    await withFrontend(WITHOUT_SLOTS, async (bench) => {
      const link = await bench.connect({ timeoutMs: 20 });
      const { aio, device } = bench;
      const session = await initializeDevice(link, { aio, wanted: 0n, queueSizeMax: 8, polling: false });
      device.scripts.set('SET_MEM_TABLE', () => undefined);
      const lending = lend(link).catch((error: unknown) => error);
      await until(() => device.payloads.has('GET_VRING_BASE'));
      await link[Symbol.asyncDispose]();
      expect(await lending).toMatchObject({ code: expect.stringMatching(/ENODEV|ETIMEDOUT/) as string });
      await session.stop();
    });
  });

  it('tells a driver that is still there that its device is gone, and why', async () => {
    await withFrontend(WITHOUT_SLOTS, async (bench) => {
      const { link, session } = await start(bench);
      const reasons: string[] = [];
      session.onBroken((reason) => reasons.push(reason));
      await link[Symbol.asyncDispose]();
      expect([reasons, session.broken]).toEqual([
        ['device gone: the link was disposed'],
        'device gone: the link was disposed',
      ]);
      await expect(link.transport.readStatus()).rejects.toThrow('ENODEV: the link was disposed');
      await session.stop();
    });
  });
});
