import { VHOST_F_LOG_ALL, VHOST_USER_BACKEND } from '@virtlab/abi/vhost-user';
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_VERSION_1,
  VIRTIO_ID_NET,
  featureBit,
  featureBits,
} from '@virtlab/abi/virtio';
import { describeWithFfi } from '@virtlab/linux/testing';
import { initializeDevice } from '@virtlab/virtio';
import { expect, it } from 'vitest';
import { type FrontendBench, until, withFrontend } from './testing/frontend-bench.ts';

const VERSION_1 = featureBit(VIRTIO_F_VERSION_1);
const RING_RESET = featureBit(VIRTIO_F_RING_RESET);
const DRIVER = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
const FEATURES_OK = DRIVER | VIRTIO_CONFIG_S_FEATURES_OK;
const NOTHING = new Uint8Array(0);

async function start({ connect, aio }: FrontendBench) {
  const link = await connect();
  const session = await initializeDevice(link, { aio, wanted: 0n, queueSizeMax: 8, polling: false });
  return { link, session, transport: link.transport };
}

describeWithFfi('driver role: what the driver sees', () => {
  it('§2.2 bits of the protocol, and those that it cannot carry, are not the driver’s', async () => {
    const own = featureBits(VHOST_F_LOG_ALL, VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_NOTIFICATION_DATA);
    const rest = VERSION_1 | featureBit(5);
    await withFrontend({ features: rest | own, protocolFeatures: ['REPLY_ACK'] }, async ({ connect }) => {
      const { transport } = await connect();
      expect(await transport.readDeviceFeatures()).toBe(rest);
    });
  });

  it('§2.1 without STATUS the status is kept by its rules, and features that must be refused are not sent', async () => {
    await withFrontend({ protocolFeatures: ['REPLY_ACK'] }, async ({ connect, device }) => {
      const { transport } = await connect();
      await transport.readDeviceFeatures();
      for (const features of [0n, VERSION_1 | featureBit(3)]) {
        await transport.writeStatus(DRIVER);
        await transport.writeDriverFeatures(features);
        await transport.writeStatus(FEATURES_OK);
        expect(await transport.readStatus()).toBe(DRIVER);
      }
      await transport.writeDriverFeatures(VERSION_1);
      await transport.writeStatus(DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
      expect(await transport.readStatus()).toBe(DRIVER);
      await transport.writeStatus(VIRTIO_CONFIG_S_FEATURES_OK);
      expect(await transport.readStatus()).toBe(FEATURES_OK);
      await transport.writeDriverFeatures(0n);
      expect(device.names.filter((name) => name === 'SET_FEATURES')).toHaveLength(1);
      await transport.writeStatus(0);
      expect(await transport.readStatus()).toBe(0);
    });
  });

  it('§2.1.2 a ring that breaks the device (SET_VRING_ERR) is DEVICE_NEEDS_RESET, and the driver is told', async () => {
    await withFrontend({ protocolFeatures: ['REPLY_ACK'] }, async (bench) => {
      const { session, transport } = await start(bench);
      bench.device.error!.write();
      await until(() => session.broken !== undefined);
      expect(session.broken).toBe('device needs reset');
      expect((await transport.readStatus()) & VIRTIO_CONFIG_S_NEEDS_RESET).not.toBe(0);
      await session.stop();
      expect(await transport.readStatus()).toBe(0);
    });
  });

  it('§2.4 RESET_DEVICE is the reset where there is no STATUS, once there is something to reset', async () => {
    await withFrontend({ protocolFeatures: ['REPLY_ACK', 'RESET_DEVICE'] }, async (bench) => {
      const { session } = await start(bench);
      expect(bench.device.takeNames()).not.toContain('RESET_DEVICE');
      await session.stop();
      expect(bench.device.takeNames()).toEqual(['RESET_DEVICE', 'GET_VRING_BASE', 'SET_VRING_ENABLE']);
    });
  });

  it('§2.4.1 a reset by STATUS ends when the status reads 0', async () => {
    await withFrontend({ protocolFeatures: ['REPLY_ACK', 'STATUS'] }, async (bench) => {
      const { session, transport } = await start(bench);
      let left = 5;
      bench.device.scripts.set('GET_STATUS', (_, usual) => {
        left -= 1;
        return left > 0 ? new Uint8Array(8).fill(1, 0, 1) : usual;
      });
      await session.stop();
      expect(left).toBe(0);
      expect(await transport.readStatus()).toBe(0);
    });
  });

  it('§2.6.1 a queue alone is reset by GET_VRING_BASE, and started again', async () => {
    await withFrontend(
      { features: VERSION_1 | RING_RESET, protocolFeatures: ['REPLY_ACK'] },
      async (bench) => {
        const { session, transport } = await start(bench);
        expect(transport.capabilities.queueReset).toBe(true);
        bench.device.takeNames();
        const fresh = await session.resetQueue(0, { size: 4 });
        expect(fresh.size).toBe(4);
        expect(bench.device.takeNames()).toEqual([
          'GET_VRING_BASE',
          'SET_VRING_ENABLE',
          'SET_VRING_NUM',
          'SET_VRING_BASE',
          'SET_VRING_ADDR',
          'SET_VRING_ERR',
          'SET_VRING_CALL',
          'SET_VRING_KICK',
          'SET_VRING_ENABLE',
        ]);
        await session.stop();
      },
    );
  });

  it('§2.5 configuration is read from 0 on, for devices that do not look at the offset, and written in place', async () => {
    const config = Uint8Array.from({ length: 16 }, (_, at) => at);
    await withFrontend({ protocolFeatures: ['REPLY_ACK', 'CONFIG'], config }, async ({ connect, device }) => {
      const { transport } = await connect();
      const out = new Uint8Array(4);
      await transport.readConfigBytes(10, out);
      expect([...out]).toEqual([10, 11, 12, 13]);
      expect(device.payloads.get('GET_CONFIG')).toMatchObject({ offset: 0 });
      await transport.writeConfigBytes(3, Uint8Array.of(9, 8));
      expect(device.payloads.get('SET_CONFIG')).toEqual({
        offset: 3,
        bytes: Uint8Array.of(9, 8),
        isMigration: false,
      });
      await expect(transport.readConfigBytes(14, out)).rejects.toMatchObject({ code: 'EPROTO' });
      await expect(transport.readConfigBytes(300, out)).rejects.toMatchObject({ code: 'EPROTO' });
      expect(await transport.readStatus()).toBe(0);
    });
  });

  it('§2.5 a device without CONFIG has the configuration that the caller supplies', async () => {
    await withFrontend({}, async ({ connect }) => {
      const { transport } = await connect({ config: Uint8Array.of(1, 2, 3), deviceType: VIRTIO_ID_NET });
      const out = new Uint8Array(2);
      await transport.readConfigBytes(1, out);
      expect([...out, transport.queueCount]).toEqual([2, 3, 2]);
      expect(transport.capabilities.configWrite).toBe(false);
      await expect(transport.writeConfigBytes(0, out)).rejects.toMatchObject({ code: 'ENOTSUP' });
    });
  });

  it('§2.5 without CONFIG and without one supplied there is no configuration', async () => {
    await withFrontend({}, async ({ connect }) => {
      const { transport } = await connect({ deviceType: VIRTIO_ID_NET });
      await expect(transport.readConfigBytes(0, new Uint8Array(1))).rejects.toMatchObject({
        code: 'ENOTSUP',
      });
      await transport.readConfigBytes(0, new Uint8Array(0));
      expect(await transport.readStatus()).toBe(0);
    });
  });

  it('"CONFIG_CHANGE_MSG" makes a new generation, and the driver is told', async () => {
    const options = {
      protocolFeatures: ['REPLY_ACK', 'BACKEND_REQ', 'CONFIG'] as const,
      config: new Uint8Array(8),
    };
    await withFrontend(options, async (bench) => {
      const { session, transport } = await start(bench);
      let toldCount = 0;
      session.onConfigChange(() => (toldCount += 1));
      const before = await transport.readConfigGeneration();
      bench.device.send(bench.device.back!, VHOST_USER_BACKEND.CONFIG_CHANGE_MSG, NOTHING, false);
      await until(() => toldCount === 1);
      expect(await transport.readConfigGeneration()).not.toBe(before);
      await session.stop();
    });
  });

  it('§2.7.10 kicks are written to the queue’s descriptor; a call runs the queue’s handler', async () => {
    await withFrontend({ protocolFeatures: ['REPLY_ACK'] }, async (bench) => {
      const { session, transport } = await start(bench);
      // The one that older devices wait for.
      expect(bench.device.kick!.read()).toBe(true);
      expect(bench.device.kick!.read()).toBe(false);
      transport.kick(0);
      transport.kick(9);
      expect(bench.device.kick!.read()).toBe(true);
      let callCount = 0;
      transport.onCall(0, () => (callCount += 1));
      bench.device.call!.write();
      await until(() => callCount === 1);
      await session.stop();
    });
  });

  it('sizes and queue counts are the caller’s where the protocol has none', async () => {
    await withFrontend({ protocolFeatures: ['MQ'], queueCount: 8n }, async ({ connect }) => {
      const { transport } = await connect({ queueCount: 2, queueSizeMax: [64, 16] });
      const sizes = await Promise.all([0, 1, 2, -1].map((queue) => transport.readQueueSizeMax(queue)));
      expect([transport.queueCount, ...sizes]).toEqual([2, 64, 16, 0, 0]);
    });
  });

  it('misuse throws with the value', async () => {
    await withFrontend({}, async ({ connect, device }) => {
      await expect(connect({ queueSizeMax: 12 })).rejects.toThrow(/queueSizeMax 12/);
      await expect(connect({ queueCount: 257 })).rejects.toThrow(/queueCount 257/);
      await expect(connect({ path: '/nowhere' })).rejects.toThrow(TypeError);
      await expect(connect({ reconnect: { withinMs: 1 } })).rejects.toThrow(/needs a path/);
      await expect(connect({ protocolFeatures: ['XEN_MMAP'] })).rejects.toThrow(/XEN_MMAP/);
      const { transport } = await connect();
      expect(() => transport.onCall(1, undefined)).toThrow(/queue 1/);
      await expect(transport.reconnect()).rejects.toThrow(/needs a path/);
      await until(() => device.names.length === 2);
      expect(device.names).toEqual(['GET_FEATURES', 'SET_OWNER']);
    });
  });
});
