import { readFileSync } from 'node:fs';
import { DeviceHost } from '@virtlab/virtio';
import { describe, expect, it } from 'vitest';
import { bringUp } from './testing/drive.ts';
import { type FoundNode, readDocumentedPaths } from './testing/documented-paths.ts';
import { RawRing } from './testing/raw-ring.ts';
import { readTree } from './testing/read-tree.ts';
import { RigDevice } from './testing/rig-device.ts';
import { TinyDevice } from './testing/tiny-device.ts';
import { XenRig } from './testing/xen-rig.ts';

const page = readDocumentedPaths(
  readFileSync(new URL('../../../docs/xenstore-paths.md', import.meta.url), 'utf8'),
);

/** Every node at five moments of a device's life; one that also failed, so that an error is there. */
async function observe(backendDomain: number): Promise<FoundNode[]> {
  const rig = new XenRig();
  const place = new RigDevice(rig, await rig.addDomain(1), await rig.addDomain(backendDomain));
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
  for (const [key, value] of [
    ['config-ref', '1'],
    ['config-event-channel', '1'],
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
  await rig.run(place.backend.store.write(`${place.backendPath}/device-status`, 'nonsense'));
  await rig.settle();
  ring.free();
  await rig.run(link[Symbol.asyncDispose]());
  await rig.run(place.backend.store.write(`${place.backendPath}/device-status`, '0 0'));
  await look();
  await rig.run(backend[Symbol.asyncDispose]());
  await look();
  return found;
}

describe('docs/xenstore-paths.md', () => {
  it.each([0, 2])(
    'every node of a running machine is documented, backend in domain %i',
    async (backendDomain) => {
      const found = await observe(backendDomain);
      expect(found.length).toBeGreaterThan(100);
      expect([...new Set(found.flatMap((node) => page.complain(node) ?? []))]).toEqual([]);
    },
  );

  it('every documented node of a device comes into being', async () => {
    const found = [...(await observe(0)), ...(await observe(2))];
    const met = new Set(found.map((node) => page.find(node)));
    const missing = page.entries
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
    expect(page.complain(node)).toBeUndefined();
    expect(page.complain({ ...node, ...change })).toContain(complaint);
  });

  it('refuses a page whose headings are not of the form', () => {
    expect(() => readDocumentedPaths('#### /a = TEXT')).toThrow(/of the form/);
    expect(() => readDocumentedPaths('#### /a = NUMBER [frontend, n$FE]')).toThrow(/Unknown type/);
  });
});
