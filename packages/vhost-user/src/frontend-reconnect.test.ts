import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VIRTIO_F_RING_PACKED, featureBit, hasFeature } from '@virtlab/abi/virtio';
import { type NodeAioContext, createNodeAioContext } from '@virtlab/aio/node';
import { openFdCount } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { DeviceHost, RING_FEATURES, type VirtioDevice, initializeDevice } from '@virtlab/virtio';
import { createBufferList } from '@virtlab/virtio/testing';
import { expect, it } from 'vitest';
import { type VhostUserLink, connectVhostUser } from './frontend-connect.ts';
import { type ConnectVhostUserOptions, VHOST_USER_FRONTEND_FEATURES } from './frontend-options.ts';
import { type VhostUserListener, listenVhostUser } from './listen.ts';
import { serveVhostUser } from './serve.ts';
import { until } from './testing/frontend-bench.ts';
import { HeldDevice } from './testing/held-device.ts';

const DEVICE_TYPE = 63;
const OWN_FEATURE = 1n << 5n;
const PACKED = featureBit(VIRTIO_F_RING_PACKED);
const FAR_AWAY = 0x7fff_ffff_ffff_f000n;

function quietDevice(features: bigint): VirtioDevice {
  return {
    deviceType: DEVICE_TYPE,
    features: RING_FEATURES | features,
    queueSizesMax: [8],
    configSize: 8,
    readConfig: () => undefined,
    activate: () => undefined,
    processQueue: () => undefined,
    reset: () => undefined,
  };
}

interface Scene {
  readonly aio: NodeAioContext;
  /** Listens at the place as a process with this device would, or, connection by connection, with these. */
  serve(...devices: readonly VirtioDevice[]): VhostUserListener;
  connect(options?: Partial<ConnectVhostUserOptions>): Promise<VhostUserLink>;
}

async function play(body: (scene: Scene) => Promise<void>): Promise<void> {
  const fdCount = openFdCount();
  const directory = mkdtempSync(join(tmpdir(), 'virtlab-vhost-user-'));
  const path = join(directory, 'device.sock');
  const aio = createNodeAioContext();
  const hosts: DeviceHost[] = [];
  const listeners: VhostUserListener[] = [];
  const links: VhostUserLink[] = [];
  const serve = (...devices: readonly VirtioDevice[]): VhostUserListener => {
    const own = (devices.length === 0 ? [quietDevice(OWN_FEATURE)] : devices).map(
      (device) => new DeviceHost({ device, aio }),
    );
    hosts.push(...own);
    let connectionCount = 0;
    const next = (): DeviceHost => own[Math.min(connectionCount++, own.length - 1)]!;
    const listener = listenVhostUser({
      path,
      serve: (stream) => serveVhostUser(stream, { host: next(), aio }),
    });
    listeners.push(listener);
    return listener;
  };
  const connect = async (options: Partial<ConnectVhostUserOptions> = {}): Promise<VhostUserLink> => {
    const common = { path, aio, deviceType: DEVICE_TYPE, queueSizeMax: 8, memorySize: 1 << 20 };
    const link = await connectVhostUser({ ...common, ...options });
    links.push(link);
    return link;
  };
  await body({ aio, serve, connect });
  for (const link of links) await link[Symbol.asyncDispose]();
  for (const listener of listeners) await listener.close();
  for (const host of hosts) host[Symbol.dispose]();
  rmSync(directory, { recursive: true });
  expect(aio.leaks()).toEqual([]);
  aio[Symbol.dispose]();
  expect(openFdCount() - fdCount, 'file descriptors').toBe(0);
}

describeWithFfi('driver role: another process takes over', () => {
  it('operations wait for it, and find the device as it was', async () => {
    await play(async ({ aio, serve, connect }) => {
      const first = serve();
      const { transport, ...link } = await connect({ reconnect: { withinMs: 5000, everyMs: 1 } });
      const session = await initializeDevice({ transport, ...link }, { aio, wanted: OWN_FEATURE });
      const before = await transport.readStatus();
      await first.close();
      const status = transport.readStatus();
      const config = session.readConfig(0, 8);
      serve();
      expect(await status).toBe(before);
      expect(await config).toHaveLength(8);
      expect([transport.reconnectCount, session.broken]).toEqual([1, undefined]);
      await session.stop();
    });
  });

  it.each(['split', 'packed'] as const)(
    'while the old one lives: what that one did not take the new one finds, also in a %s ring without INFLIGHT_SHMFD',
    async (ring) => {
      for (const inflight of [true, false]) {
        await play(async ({ aio, serve, connect }) => {
          const device = new HeldDevice(1, 8);
          device.isPrompt = true;
          serve(quietDevice(PACKED), device);
          const protocolFeatures = VHOST_USER_FRONTEND_FEATURES.filter(
            (feature) => inflight || feature !== 'INFLIGHT_SHMFD',
          );
          const link = await connect({ protocolFeatures });
          const wanted = ring === 'packed' ? RING_FEATURES | PACKED : RING_FEATURES & ~PACKED;
          const session = await initializeDevice(link, { aio, wanted });
          expect(hasFeature(session.features, VIRTIO_F_RING_PACKED)).toBe(ring === 'packed');
          const list = createBufferList();
          list.addReadable(link.dma.allocate(64), 8);
          list.addWritable(link.dma.allocate(64), 8);
          const queue = session.queues[0]!;
          queue.add(list, 7);
          session.kick(0);
          await link.transport.reconnect();
          await until(() => queue.hasUsed() || session.broken !== undefined);
          expect([queue.popUsed(), session.broken]).toEqual([7, undefined]);
          await session.stop();
        });
      }
    },
  );

  it('one that lacks a negotiated feature does not: the device is gone', async () => {
    await play(async ({ aio, serve, connect }) => {
      const first = serve();
      const link = await connect({ reconnect: { withinMs: 5000, everyMs: 1 } });
      const session = await initializeDevice(link, { aio, wanted: OWN_FEATURE });
      const { promise, resolve } = Promise.withResolvers<string>();
      session.onBroken(resolve);
      await first.close();
      serve(quietDevice(0n));
      expect(await promise).toMatch(/does not offer features 0x20/);
      await session.stop();
    });
  });

  it('when nobody comes within the time, the device is gone', async () => {
    await play(async ({ serve, connect }) => {
      const first = serve();
      const { transport } = await connect({ reconnect: { withinMs: 20, everyMs: 5 } });
      const { promise, resolve } = Promise.withResolvers<string>();
      transport.onGone(resolve);
      await first.close();
      await expect(transport.readStatus()).rejects.toMatchObject({ code: 'ENODEV' });
      expect(await promise).toMatch(/closed the connection; .*(ENOENT|ECONNREFUSED)/);
    });
  });

  it('a link that is closed while it waits, waits no longer', async () => {
    await play(async ({ serve, connect }) => {
      const first = serve();
      const link = await connect({ reconnect: { withinMs: 3_600_000, everyMs: 1_800_000 } });
      await first.close();
      const status = link.transport.readStatus().catch((error: unknown) => error);
      await link[Symbol.asyncDispose]();
      expect(await status).toMatchObject({ code: 'ENODEV' });
    });
  });

  it('§2.7 a ring where no memory is, is refused by the device, which can be reset and works', async () => {
    await play(async ({ aio, serve, connect }) => {
      serve();
      const link = await connect();
      const { transport } = link;
      for (const status of [1, 3]) await transport.writeStatus(status);
      await transport.writeDriverFeatures(await transport.readDeviceFeatures());
      await transport.writeStatus(0xb);
      const addresses = { size: 8, descriptorArea: FAR_AWAY, driverArea: FAR_AWAY, deviceArea: FAR_AWAY };
      await transport.enableQueue(0, addresses);
      await expect(transport.writeStatus(0xf)).rejects.toMatchObject({ code: 'EIO' });
      const session = await initializeDevice(link, { aio, wanted: OWN_FEATURE });
      expect(session.broken).toBeUndefined();
      await session.stop();
    });
  });
});
