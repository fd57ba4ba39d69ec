import { DeviceHost, type DriverLink, TransportError } from '@virtlab/virtio';
import { createDevice, detachDevice, offlineDevice } from '@virtlab/xenbus';
import { XenstoreError } from '@virtlab/xenstore';
import { describe, expect, it } from 'vitest';
import type { XenbusProfile } from './profile.ts';
import { bringUp } from './testing/drive.ts';
import { RawRing } from './testing/raw-ring.ts';
import { RigDevice } from './testing/rig-device.ts';
import { tappedStore } from './testing/tapped-store.ts';
import { TinyDevice } from './testing/tiny-device.ts';
import { XenRig } from './testing/xen-rig.ts';

type Blow = (place: RigDevice) => Promise<unknown> | void;

/** What befalls the pair. */
const BLOWS: Readonly<Record<string, Blow>> = {
  'both directories removed': (place) => place.unplug(),
  'the backend’s directory removed, then the frontend’s': async ({ rig, backendPath, frontendPath }) => {
    await rig.toolstack.rm(backendPath);
    await rig.toolstack.rm(frontendPath);
  },
  'the frontend’s directory removed, then the backend’s': async ({ rig, backendPath, frontendPath }) => {
    await rig.toolstack.rm(frontendPath);
    await rig.toolstack.rm(backendPath);
  },
  'the backend’s directory removed': (place) => place.rig.toolstack.rm(place.backendPath),
  'the frontend’s directory removed': (place) => place.rig.toolstack.rm(place.frontendPath),
  'both directories made anew': (place) => createDevice(place.rig.toolstack, place.id),
  'the device taken offline': (place) => offlineDevice(place.rig.toolstack, place.id),
  'the frontend’s domain killed': (place) => place.rig.kill(place.frontend),
  'the backend’s domain killed': (place) => place.rig.kill(place.backend),
};

/** How long a toolstack waits before it uses force; longer than either end needs. */
const FORCE_AFTER_MS = 10_000;

/** A driver's whole life; the ring is given back last, however it ends. */
async function live(place: RigDevice, store: RigDevice['frontend']['store']): Promise<void> {
  let link: DriverLink | undefined;
  let ring: RawRing | undefined;
  try {
    link = await place.connect(200, store);
    ring = new RawRing(link.dma);
    await bringUp(link, ring);
    ring.add(ring.addresses.descriptorArea, 16);
    link.transport.kick(0);
    await link.transport.writeConfigBytes(0, Uint8Array.of(7));
    if (link.transport.capabilities.queueReset) {
      await link.transport.resetQueue(0);
      await link.transport.enableQueue(0, ring.addresses);
    }
    await link.transport.writeStatus(0);
  } finally {
    ring?.free();
    await link?.[Symbol.asyncDispose]();
  }
}

interface Outcome {
  readonly hasStruck: boolean;
  /** What an end was told that is no clear outcome. */
  readonly surprise: unknown;
  readonly leaks: readonly string[];
}

/** One life with a blow after so many xenstore operations of both ends. Rejects when anything hangs. */
async function liveUntil(operationCount: number, profile: XenbusProfile, blow: Blow): Promise<Outcome> {
  const rig = new XenRig({ seed: operationCount + 1, ramPages: 32 });
  const place = new RigDevice(rig, await rig.addDomain(1), await rig.addDomain(2), 0, profile);
  await place.plug();
  const host = new DeviceHost({ device: new TinyDevice(), aio: place.backend.aio });
  let seen = 0;
  let hasStruck = false;
  let struck: Promise<unknown> = Promise.resolve();
  const tap = async (): Promise<void> => {
    seen += 1;
    if (hasStruck || seen < operationCount) return;
    hasStruck = true;
    struck = Promise.resolve(blow(place));
    await struck;
  };
  const isKilled = (domain: RigDevice['frontend']): boolean => rig.domain(domain.id) === undefined;
  const serving = place.serve(host, tappedStore(place.backend.store, tap)).catch(() => undefined);
  const living = live(place, tappedStore(place.frontend.store, tap)).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  await rig.simulation.run();
  let error: unknown;
  let reason: string | undefined;
  if (!isKilled(place.frontend)) error = await rig.finish(living);
  if (!isKilled(place.backend)) {
    const backend = await rig.finish(serving);
    const closing = backend?.[Symbol.asyncDispose]();
    await rig.simulation.run();
    if (!isKilled(place.backend)) {
      await rig.finish(Promise.resolve(closing));
      reason = (await backend?.closed) ?? 'never served';
    }
    host[Symbol.dispose]();
  }
  await rig.finish(struck);
  const isClear = error === undefined || error instanceof TransportError || error instanceof XenstoreError;
  const isKnown = reason === undefined || REASONS.includes(reason);
  const surprise = isClear && isKnown ? undefined : { error, reason };
  return { hasStruck, surprise, leaks: rig.leaks() };
}

const REASONS: readonly string[] = [
  'closed',
  'removed',
  'replaced',
  'offline',
  'frontend gone',
  'never served',
];

describe.each(['native', 'register-page'] as const)(
  '%s, after whichever xenstore operation: nothing hangs, nothing leaks, both sides know',
  (profile) => {
    it.each(Object.entries(BLOWS))(
      '%s',
      async (_, blow) => {
        let operationCount = 1;
        for (let hasStruck = true; hasStruck; operationCount += 1) {
          const outcome = await liveUntil(operationCount, profile, blow);
          expect(outcome.leaks, `after ${operationCount} operations`).toEqual([]);
          expect(outcome.surprise, `after ${operationCount} operations`).toBeUndefined();
          ({ hasStruck } = outcome);
        }
        expect(operationCount).toBeGreaterThan(60);
      },
      60_000,
    );

    it('detached in order: the ends go by themselves unless there is none', async () => {
      const outcomes = new Set<boolean>();
      let operationCount = 1;
      for (let hasStruck = true; hasStruck; operationCount += 3) {
        const outcome = await liveUntil(operationCount, profile, (place) => {
          void detach(place).then((isOrderly) => outcomes.add(isOrderly));
        });
        expect(outcome.leaks, `after ${operationCount} operations`).toEqual([]);
        ({ hasStruck } = outcome);
      }
      expect(outcomes).toContain(true);
    }, 60_000);
  },
);

async function detach({ rig, frontend, id }: RigDevice): Promise<boolean> {
  const force = new AbortController();
  using timer = frontend.aio.createTimer(() => force.abort());
  timer.arm(FORCE_AFTER_MS);
  return await detachDevice(rig.toolstack, id, { signal: force.signal });
}
