import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
  featureBit,
} from '@virtlab/abi/virtio';
import type { VhostUserProtocolFeature } from '@virtlab/abi/vhost-user';
import { describeWithFfi } from '@virtlab/linux/testing';
import { initializeDevice } from '@virtlab/virtio';
import { expect, it } from 'vitest';
import { type FrontendBench, withFrontend } from './testing/frontend-bench.ts';

const VERSION_1 = featureBit(VIRTIO_F_VERSION_1);
const PACKED = featureBit(VIRTIO_F_RING_PACKED);
const DRIVER_OK =
  VIRTIO_CONFIG_S_ACKNOWLEDGE |
  VIRTIO_CONFIG_S_DRIVER |
  VIRTIO_CONFIG_S_FEATURES_OK |
  VIRTIO_CONFIG_S_DRIVER_OK;
const ALL: readonly VhostUserProtocolFeature[] = [
  'MQ',
  'REPLY_ACK',
  'BACKEND_REQ',
  'CONFIG',
  'INFLIGHT_SHMFD',
  'RESET_DEVICE',
  'CONFIGURE_MEM_SLOTS',
  'STATUS',
];
const RING_SET_UP = ['SET_VRING_NUM', 'SET_VRING_BASE', 'SET_VRING_ADDR'];
const RING_START = ['SET_VRING_ERR', 'SET_VRING_CALL', 'SET_VRING_KICK'];
const RING_STOP = ['GET_VRING_BASE', 'SET_VRING_ENABLE'];

async function start({ connect, aio }: FrontendBench, wanted = 0n) {
  const link = await connect();
  const session = await initializeDevice(link, { aio, wanted, queueSizeMax: 8 });
  return { link, session, transport: link.transport };
}

describeWithFfi('driver role: messages and their order', () => {
  it('"Feature negotiation": what the device offers is asked for, and only then used', async () => {
    await withFrontend({ protocolFeatures: ALL, queueCount: 3n }, async (bench) => {
      const { transport } = await bench.connect();
      expect(bench.device.names).toEqual([
        'GET_FEATURES',
        'GET_PROTOCOL_FEATURES',
        'SET_PROTOCOL_FEATURES',
        'GET_QUEUE_NUM',
        'GET_MAX_MEM_SLOTS',
        'SET_BACKEND_REQ_FD',
        'SET_OWNER',
      ]);
      expect(transport.queueCount).toBe(3);
      expect([...transport.protocolFeatures].toSorted()).toEqual([...ALL].toSorted());
      expect(transport.capabilities).toEqual({
        name: 'vhost-user',
        queueReset: false,
        configWrite: true,
        callPerQueue: true,
        checksRings: true,
      });
    });
  });

  it('a device without protocol features is asked for none, and its rings are never enabled', async () => {
    await withFrontend({}, async (bench) => {
      const { session } = await start(bench);
      expect(bench.device.takeNames()).toEqual([
        'GET_FEATURES',
        'SET_OWNER',
        'GET_FEATURES',
        'SET_FEATURES',
        'SET_MEM_TABLE',
        ...RING_SET_UP,
        ...RING_START,
        'GET_FEATURES',
      ]);
      expect(bench.device.payloads.get('SET_FEATURES')).toBe(VERSION_1);
      await session.stop();
      expect(bench.device.takeNames()).toEqual(['GET_VRING_BASE']);
    });
  });

  it('"Ring states": nothing is started before DRIVER_OK, and STATUS is set in step', async () => {
    await withFrontend(
      { protocolFeatures: ['REPLY_ACK', 'STATUS', 'CONFIGURE_MEM_SLOTS'] },
      async (bench) => {
        const link = await bench.connect();
        bench.device.takeNames();
        const session = await initializeDevice(link, { aio: bench.aio, wanted: 0n, queueSizeMax: 8 });
        const names = bench.device.takeNames();
        expect(names.slice(names.indexOf('ADD_MEM_REG'))).toEqual([
          'ADD_MEM_REG',
          ...RING_SET_UP,
          ...RING_START,
          'SET_VRING_ENABLE',
          'SET_STATUS',
        ]);
        expect(bench.device.status).toBe(DRIVER_OK);
        await session.stop();
        expect(bench.device.takeNames()).toEqual(['SET_STATUS', ...RING_STOP, 'GET_STATUS']);
        expect(bench.device.status).toBe(0);
      },
    );
  });

  it('memory is shared once for a connection; rings are where the driver has them', async () => {
    await withFrontend({ protocolFeatures: ['REPLY_ACK'] }, async (bench) => {
      const { session, link } = await start(bench);
      const { addresses } = session.queues[0]!;
      const [region] = bench.device.payloads.get('SET_MEM_TABLE') as { userAddress: bigint; size: bigint }[];
      expect(region!.size).toBe(BigInt(link.dma.memory.size));
      expect(addresses.descriptorArea).toBeGreaterThanOrEqual(region!.userAddress);
      expect(bench.device.payloads.get('SET_VRING_ADDR')).toMatchObject({
        descriptorArea: addresses.descriptorArea,
        driverArea: addresses.driverArea,
        deviceArea: addresses.deviceArea,
      });
      await session.stop();
      const again = await initializeDevice(link, { aio: bench.aio, wanted: 0n, queueSizeMax: 8 });
      expect(bench.device.takeNames().filter((name) => name === 'SET_MEM_TABLE')).toHaveLength(1);
      await again.stop();
    });
  });

  it('§2.8.1 a packed ring starts with both wrap counters set', async () => {
    await withFrontend({ features: VERSION_1 | PACKED }, async (bench) => {
      const { session } = await start(bench, PACKED);
      expect(bench.device.payloads.get('SET_VRING_BASE')).toEqual({ index: 0, num: 0x8000_8000 });
      await session.stop();
    });
  });

  it('"Inflight I/O tracking": the memory is set before rings start, and forgotten by a reset', async () => {
    await withFrontend({ protocolFeatures: ['REPLY_ACK', 'INFLIGHT_SHMFD'] }, async (bench) => {
      const link = await bench.connect();
      for (let round = 0; round < 2; round += 1) {
        const session = await initializeDevice(link, { aio: bench.aio, wanted: 0n, queueSizeMax: 8 });
        const names = bench.device.takeNames();
        const asked = names.indexOf('GET_INFLIGHT_FD');
        expect(names[asked + 1]).toBe('SET_INFLIGHT_FD');
        expect(names.indexOf('SET_VRING_KICK')).toBeGreaterThan(asked);
        expect(bench.device.payloads.get('GET_INFLIGHT_FD')).toMatchObject({ queueCount: 1, queueSize: 8 });
        await session.stop();
      }
    });
  });
});
