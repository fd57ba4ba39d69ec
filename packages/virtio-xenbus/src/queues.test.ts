import {
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
  featureBits,
  hasFeature,
} from '@virtlab/abi/virtio';
import { DeviceHost, ALL_RING_FEATURES, initializeDevice } from '@virtlab/virtio';
import { describe, expect, it } from 'vitest';
import { STATUS_DRIVER_OK, bringUp, negotiate } from './testing/drive.ts';
import { RawRing } from './testing/raw-ring.ts';
import { RigDevice } from './testing/rig-device.ts';
import { TinyDevice } from './testing/tiny-device.ts';
import { XenRig } from './testing/xen-rig.ts';

const QUEUE_COUNT = 8;

/** A device with many queues, served. */
async function serve(
  profile: 'native' | 'register-page',
  device: TinyDevice,
): Promise<{ rig: XenRig; place: RigDevice; host: DeviceHost; end: () => Promise<readonly string[]> }> {
  const rig = new XenRig();
  const place = new RigDevice(rig, await rig.addDomain(1), await rig.addDomain(2), 0, profile);
  await place.plug();
  const host = new DeviceHost({ device, aio: place.backend.aio });
  const backend = await rig.run(place.serve(host));
  const end = async (): Promise<readonly string[]> => {
    await rig.run(backend[Symbol.asyncDispose]());
    host[Symbol.dispose]();
    return rig.leaks();
  };
  return { rig, place, host, end };
}

function manyQueues(): TinyDevice {
  return Object.assign(new TinyDevice(), { queueSizesMax: Array.from({ length: QUEUE_COUNT }, () => 8) });
}

describe.each(['native', 'register-page'] as const)('%s: many queues', (profile) => {
  it('eight queues work side by side', async () => {
    const { rig, place, host, end } = await serve(profile, manyQueues());
    const link = await rig.run(place.connect());
    await rig.run(negotiate(link));
    const rings = Array.from({ length: QUEUE_COUNT }, () => new RawRing(link.dma));
    const calls = rings.map(() => 0);
    for (const [queue, ring] of rings.entries()) {
      await rig.run(link.transport.enableQueue(queue, ring.addresses));
      link.transport.onCall(queue, () => (calls[queue]! += 1));
    }
    await rig.run(link.transport.writeStatus(STATUS_DRIVER_OK));
    for (let round = 1; round <= 3; round += 1) {
      for (const [queue, ring] of rings.entries()) {
        ring.add(ring.addresses.descriptorArea, 16);
        link.transport.kick(queue);
      }
      await rig.until('all are done', () => host.statistics.every(({ requests }) => requests === round));
      await rig.until('all are called', () => calls.every((count) => count >= round || profile !== 'native'));
    }
    expect(calls.every((count) => count > 0)).toBe(true);
    const channels = place.frontend.events.openPorts().length;
    expect(channels).toBe(profile === 'native' ? 1 + QUEUE_COUNT : 2);
    await rig.run(link.transport.writeStatus(0));
    expect(rings.map((ring) => ring.free())).toEqual(rings.map(() => true));
    await rig.run(link[Symbol.asyncDispose]());
    expect(await end()).toEqual([]);
  });

  it('§2.8 packed rings in order: what is negotiated reaches the device, with three areas that are no legacy ring', async () => {
    const device = Object.assign(manyQueues(), { features: ALL_RING_FEATURES | 1n });
    const { rig, place, host, end } = await serve(profile, device);
    const link = await rig.run(place.connect());
    const wanted = featureBits(VIRTIO_F_RING_PACKED, VIRTIO_F_IN_ORDER);
    const session = await rig.run(initializeDevice(link, { aio: place.frontend.aio, wanted }));
    expect(session.features & wanted).toBe(wanted);
    expect(host.driverFeatures & wanted).toBe(wanted);
    expect(Array.from({ length: QUEUE_COUNT }, (_, queue) => host.isQueueEnabled(queue))).not.toContain(
      false,
    );
    await rig.run(session.stop());
    await rig.run(link[Symbol.asyncDispose]());
    expect(await end()).toEqual([]);
  });
});

describe('native: §2.6.1 a queue that is reset alone', () => {
  it('resets of several queues run at the same time, each with its own answer', async () => {
    const device = manyQueues();
    const held: PromiseWithResolvers<void>[] = [];
    device.drainQueue = () => {
      const drained = Promise.withResolvers<void>();
      held.push(drained);
      return drained.promise;
    };
    const { rig, place, host, end } = await serve('native', device);
    const link = await rig.run(place.connect());
    await rig.run(negotiate(link));
    expect(hasFeature(host.driverFeatures, VIRTIO_F_RING_RESET)).toBe(true);
    const rings = Array.from({ length: 4 }, () => new RawRing(link.dma));
    for (const [queue, ring] of rings.entries())
      await rig.run(link.transport.enableQueue(queue, ring.addresses));
    await rig.run(link.transport.writeStatus(STATUS_DRIVER_OK));
    const done: number[] = [];
    const resets = [0, 1, 2].map((queue) => link.transport.resetQueue(queue).then(() => done.push(queue)));
    await rig.until('all are held', () => held.length === 3);
    await expect(rig.run(link.transport.resetQueue(1))).rejects.toThrow(TypeError);
    held[1]!.resolve();
    await rig.until('one is done', () => done.length === 1);
    expect([done, rings[1]!.free(), rings[0]!.free()]).toEqual([[1], true, false]);
    rings[3]!.add(rings[3]!.addresses.descriptorArea, 16);
    link.transport.kick(3);
    await rig.until('another queue works', () => host.statistics[3]!.requests === 1);
    held[0]!.resolve();
    held[2]!.resolve();
    await rig.run(Promise.all(resets));
    expect(place.frontend.events.openPorts()).toHaveLength(2);
    await rig.run(link.transport.writeStatus(0));
    rings[2]!.free();
    rings[3]!.free();
    await rig.run(link[Symbol.asyncDispose]());
    expect(await end()).toEqual([]);
  });

  it('answers of an earlier connection are not taken for new ones', async () => {
    const { rig, place, host, end } = await serve('native', new TinyDevice());
    for (let round = 0; round < 3; round += 1) {
      const link = await rig.run(place.connect());
      const ring = new RawRing(link.dma);
      await rig.run(bringUp(link, ring));
      await rig.run(link.transport.resetQueue(0));
      expect(host.isQueueEnabled(0)).toBe(false);
      await rig.run(link.transport.enableQueue(0, ring.addresses));
      expect(host.isQueueEnabled(0)).toBe(true);
      expect(await rig.run(rig.toolstack.readText(`${place.backendPath}/device-queue/0`))).toBe('2 1');
      await rig.run(link.transport.writeStatus(0));
      ring.free();
      await rig.run(link[Symbol.asyncDispose]());
    }
    expect(await end()).toEqual([]);
  });
});
