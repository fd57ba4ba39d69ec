import { DeviceHost, type DriverLink, TransportError } from '@virtlab/virtio';
import { createDevice, offlineDevice } from '@virtlab/xenbus';
import { XenstoreError } from '@virtlab/xenstore';
import { describe, expect, it } from 'vitest';
import { bringUp } from './testing/drive.ts';
import { RawRing } from './testing/raw-ring.ts';
import { RigDevice } from './testing/rig-device.ts';
import { TinyDevice } from './testing/tiny-device.ts';
import { XenRig } from './testing/xen-rig.ts';

/** What befalls the pair; everything that is awaited goes through xenstore, which runs by itself. */
const BLOWS: Readonly<Record<string, (place: RigDevice) => Promise<void> | void>> = {
  'both directories removed': (place) => place.unplug(),
  'the backend’s directory removed': (place) => place.rig.toolstack.rm(place.backendPath),
  'the frontend’s directory removed': (place) => place.rig.toolstack.rm(place.frontendPath),
  'both directories made anew': (place) => createDevice(place.rig.toolstack, place.id),
  'the device taken offline': (place) => offlineDevice(place.rig.toolstack, place.id),
  'the frontend’s domain killed': (place) => place.rig.kill(place.frontend),
  'the backend’s domain killed': (place) => place.rig.kill(place.backend),
};

/** A driver's whole life; the ring is given back last, however it ends. */
async function live(place: RigDevice): Promise<void> {
  let link: DriverLink | undefined;
  let ring: RawRing | undefined;
  try {
    link = await place.connect(200);
    ring = new RawRing(link.dma);
    await bringUp(link, ring);
    ring.add(ring.addresses.descriptorArea, 16);
    link.transport.kick(0);
    await link.transport.writeConfigBytes(0, Uint8Array.of(7));
    await link.transport.writeStatus(0);
  } finally {
    ring?.free();
    await link?.[Symbol.asyncDispose]();
  }
}

interface Outcome {
  readonly hasStruck: boolean;
  readonly leaks: readonly string[];
}

/** One life with a blow after so many xenstore events. Rejects when anything hangs. */
async function liveUntil(
  eventCount: number,
  doorbells: 'calm' | 'late',
  blow: (place: RigDevice) => Promise<void> | void,
): Promise<Outcome> {
  const rig = new XenRig({ seed: eventCount + 1, ramPages: 32, doorbells });
  const place = new RigDevice(rig, await rig.addDomain(1), await rig.addDomain(2));
  await place.plug();
  const host = new DeviceHost({ device: new TinyDevice(), aio: place.backend.aio });
  let seen = -1;
  let hasStruck = false;
  const watch = await rig.toolstack.watch('/local/domain', () => {
    seen += 1;
    if (hasStruck || seen < eventCount) return;
    hasStruck = true;
    void blow(place);
  });
  const serving = place.serve(host).then(
    (backend) => backend,
    () => undefined,
  );
  const living = live(place).then(
    () => undefined,
    (error: unknown) => error,
  );
  await rig.simulation.run();
  await watch.close();
  const isKilled = (domain: typeof place.frontend): boolean => rig.domain(domain.id) === undefined;
  if (!isKilled(place.frontend)) {
    const error = await rig.finish(living);
    const isExpected =
      error === undefined || error instanceof TransportError || error instanceof XenstoreError;
    if (!isExpected) throw error;
  }
  if (!isKilled(place.backend)) {
    const backend = await rig.finish(serving);
    if (backend !== undefined) await rig.finish(backend[Symbol.asyncDispose]());
    host[Symbol.dispose]();
  }
  return { hasStruck, leaks: rig.leaks() };
}

describe('whatever happens, after whichever xenstore event: nothing hangs and nothing leaks', () => {
  it.each(Object.entries(BLOWS))('%s', async (_, blow) => {
    let eventCount = 0;
    for (let hasStruck = true; hasStruck; eventCount += 1) {
      const calm = await liveUntil(eventCount, 'calm', blow);
      const late = await liveUntil(eventCount, 'late', blow);
      expect([...calm.leaks, ...late.leaks], `after ${eventCount} events`).toEqual([]);
      hasStruck = calm.hasStruck || late.hasStruck;
    }
    expect(eventCount).toBeGreaterThan(40);
  });
});
