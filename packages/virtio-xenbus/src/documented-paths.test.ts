import { readFileSync } from 'node:fs';
import { DeviceHost, type DriverLink } from '@virtlab/virtio';
import { describe, expect, it } from 'vitest';
import type { XenbusProfile } from './profile.ts';
import { bringUp } from './testing/drive.ts';
import { type FoundNode, readDocumentedPaths } from './testing/documented-paths.ts';
import { RawRing } from './testing/raw-ring.ts';
import { readTree } from './testing/read-tree.ts';
import { RigDevice } from './testing/rig-device.ts';
import { TinyDevice } from './testing/tiny-device.ts';
import { XenRig } from './testing/xen-rig.ts';

const document = readDocumentedPaths(
  readFileSync(new URL('../../../docs/xenstore-paths.md', import.meta.url), 'utf8'),
);

/** Every node at five moments of a device's life; one that also failed, so that an error is there. */
async function observe(profile: XenbusProfile, backendDomain: number): Promise<FoundNode[]> {
  const rig = new XenRig();
  const place = new RigDevice(rig, await rig.addDomain(1), await rig.addDomain(backendDomain), 0, profile);
  const found: FoundNode[] = [];
  const look = async (): Promise<void> => {
    await rig.settle();
    found.push(...(await rig.run(readTree(rig.toolstack))));
  };
  await place.plug();
  await look();
  const host = new DeviceHost({ device: new TinyDevice(), aio: place.backend.aio });
  const backend = await rig.run(place.serve(host));
  const { store } = place.frontend;
  const [page, channel] =
    profile === 'native' ? ['config-ref', 'config-event-channel'] : ['page-gref', 'event-channel'];
  for (const [key, value] of [
    [page, '1'],
    [channel, '1'],
    ['state', '3'],
  ]) {
    await rig.run(store.write(`${place.frontendPath}/${key}`, value!));
  }
  await look();
  await rig.run(store.write(`${place.frontendPath}/state`, '6'));
  const link = await rig.run(place.connect());
  const ring = new RawRing(link.dma);
  await rig.run(bringUp(link, ring));
  await look();
  if (profile === 'native') await misbehave(place, link, ring, look);
  else await rig.run(link.transport.writeStatus(0));
  ring.free();
  await rig.run(link[Symbol.asyncDispose]());
  await look();
  await rig.run(backend[Symbol.asyncDispose]());
  await look();
  return found;
}

/** What only the native profile has in the store: requests of one queue, and answers that can be nonsense. */
async function misbehave(
  { rig, backend, backendPath }: RigDevice,
  { transport }: DriverLink,
  ring: RawRing,
  look: () => Promise<void>,
): Promise<void> {
  await rig.run(transport.resetQueue(0));
  await look();
  await rig.run(transport.enableQueue(0, ring.addresses));
  await look();
  await rig.run(backend.store.write(`${backendPath}/device-status`, 'nonsense'));
  await rig.settle();
  await rig.run(backend.store.write(`${backendPath}/device-status`, '0 0'));
}

describe('docs/xenstore-paths.md', () => {
  it.each([
    ['native', 0],
    ['native', 2],
    ['register-page', 0],
    ['register-page', 2],
  ] as const)(
    'every node of a running machine is documented, %s profile, backend in domain %i',
    async (profile, backendDomain) => {
      const found = await observe(profile, backendDomain);
      expect(found.length).toBeGreaterThan(100);
      expect([...new Set(found.flatMap((node) => document.complain(node) ?? []))]).toEqual([]);
    },
  );

  it('every documented node of a device comes into being', async () => {
    const found = [
      ...(await observe('native', 0)),
      ...(await observe('native', 2)),
      ...(await observe('register-page', 0)),
    ];
    const met = new Set(found.map((node) => document.find(node)));
    const missing = document.entries
      .filter(({ pattern }) => /virtio|FAILED/.test(pattern))
      .filter((entry) => !met.has(entry));
    expect(missing.map(({ pattern }) => pattern)).toEqual([]);
  });

  const node = { path: '/local/domain/1/device/virtio/0/state', value: '4', permissions: ['n1', 'r0'] };
  it.each([
    ['a path that is not there', { path: '/local/domain/1/device/virtio/0/stat' }, 'not documented'],
    ['a value of another type', { value: '9' }, '"9" is not STATE'],
    [
      'a literal that is not listed',
      { path: '/local/domain/1/device/virtio/0/queue-3/enabled', value: '2' },
      '"2" is not',
    ],
    ['another owner', { permissions: ['n2', 'r0'] }, 'permissions n2 r0'],
    ['a wider permission', { permissions: ['n1', 'b0'] }, 'permissions n1 b0'],
    ['one entry more', { permissions: ['n1', 'r0', 'r5'] }, 'permissions n1 r0 r5'],
  ])('complains of %s', (_, change, complaint) => {
    expect(document.complain(node)).toBeUndefined();
    expect(document.complain({ ...node, ...change })).toContain(complaint);
  });

  it('refuses a page whose headings are not of the form', () => {
    expect(() => readDocumentedPaths('#### /a = TEXT')).toThrow(/of the form/);
    expect(() => readDocumentedPaths('#### /a = NUMBER [frontend, n$FE]')).toThrow(/Unknown type/);
  });
});
