import { DeviceHost } from '@virtlab/virtio';
import type { Xenstore } from '@virtlab/xenstore';
import { describe, expect, it } from 'vitest';
import { conflictingStore } from './testing/conflicting-store.ts';
import { bringUp } from './testing/drive.ts';
import { RawRing } from './testing/raw-ring.ts';
import { RigDevice } from './testing/rig-device.ts';
import { TinyDevice } from './testing/tiny-device.ts';
import { XenRig } from './testing/xen-rig.ts';

interface Stormy {
  readonly rig: XenRig;
  readonly place: RigDevice;
  readonly host: DeviceHost;
  /** The connections of the two ends, on which so many transactions in a row meet a conflict. */
  readonly frontStore: Xenstore;
  readonly backStore: Xenstore;
}

async function storm(
  profile: 'native' | 'register-page',
  frontCount: number,
  backCount: number,
): Promise<Stormy> {
  const rig = new XenRig();
  const place = new RigDevice(rig, await rig.addDomain(1), await rig.addDomain(2), 0, profile);
  await place.plug();
  const host = new DeviceHost({ device: new TinyDevice(), aio: place.backend.aio });
  const { toolstack } = rig;
  const backStore = conflictingStore(place.backend.store, toolstack, place.backendPath, backCount);
  const frontStore = conflictingStore(place.frontend.store, toolstack, place.frontendPath, frontCount);
  return { rig, place, host, frontStore, backStore };
}

describe.each(['native', 'register-page'] as const)('%s: transactions that conflict', (profile) => {
  it.each([1, 5, 40])(
    'each transaction of both ends meets EAGAIN %i times: the device comes up and goes',
    async (count) => {
      const { rig, place, host, frontStore, backStore } = await storm(profile, count, count);
      const backend = await rig.run(place.serve(host, backStore));
      const link = await rig.run(place.connect(5000, frontStore));
      const ring = new RawRing(link.dma);
      await rig.run(bringUp(link, ring));
      expect(host.isQueueEnabled(0)).toBe(true);
      await rig.run(link.transport.writeStatus(0));
      ring.free();
      await rig.run(link[Symbol.asyncDispose]());
      await rig.run(backend[Symbol.asyncDispose]());
      host[Symbol.dispose]();
      expect(rig.leaks()).toEqual([]);
    },
  );

  it('a frontend that never comes through gives up and says so; the backend serves the next', async () => {
    const { rig, place, host, frontStore } = await storm(profile, 1e9, 0);
    const backend = await rig.run(place.serve(host));
    const error: unknown = await rig
      .finish(place.connect(5000, frontStore))
      .catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: 'TransportError', code: 'EIO' });
    expect(String(error)).toContain('64 transactions in a row met a conflict');
    const link = await rig.run(place.connect());
    await rig.run(link[Symbol.asyncDispose]());
    await rig.run(backend[Symbol.asyncDispose]());
    host[Symbol.dispose]();
    expect(rig.leaks()).toEqual([]);
  });

  it('a backend that never comes through gives up and says so; the frontend is not left waiting', async () => {
    const { rig, place, host, backStore } = await storm(profile, 0, 1e9);
    const serving = place.serve(host, backStore);
    const connecting = place.connect(2000).catch((reason: unknown) => reason);
    const backend = await rig.finish(serving);
    expect(await rig.finish(backend.closed)).toBe('xenstore busy');
    expect(await rig.finish(connecting)).toMatchObject({ code: 'ETIMEDOUT' });
    await rig.finish(backend[Symbol.asyncDispose]());
    host[Symbol.dispose]();
    expect(rig.leaks()).toEqual([]);
  });

  it('the pauses grow, so that a storm of a second is sat out', async () => {
    const { rig, place, host, frontStore } = await storm(profile, 60, 0);
    const backend = await rig.run(place.serve(host));
    const before = rig.simulation.now();
    const link = await rig.run(place.connect(5000, frontStore));
    expect(rig.simulation.now() - before).toBeGreaterThan(1000);
    await rig.run(link[Symbol.asyncDispose]());
    await rig.run(backend[Symbol.asyncDispose]());
    host[Symbol.dispose]();
    expect(rig.leaks()).toEqual([]);
  });
});
