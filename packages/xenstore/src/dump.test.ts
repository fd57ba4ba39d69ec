import { fc } from '@fast-check/vitest';
import { domId } from '@virtlab/abi/brands';
import {
  XS_STATE_NODE,
  XS_STATE_PREAMBLE,
  XS_STATE_RECORD_HEADER,
  XS_STATE_TYPE_NODE,
  XS_STATE_TYPE_TA,
  XS_STATE_TYPE_WATCH_EXT,
} from '@virtlab/abi/xs-migration';
import { describe, expect, it } from 'vitest';
import { createXenstore } from './create-xenstore.ts';
import { decodeDump, encodeDump } from './dump-format.ts';
import { PROFILE_C_4_17 } from './profile-c-4-17.ts';
import { XENSTORE_PROFILES } from './profiles.ts';
import { DumpError, type ImageNode, type StoreImage } from './store-image.ts';
import { XenstoreStore } from './store.ts';

const PROFILES = [...XENSTORE_PROFILES.values()];
const ROOT: ImageNode = { path: '/', value: '', permissions: [{ domid: 0, access: 'n', isStale: false }] };

function node(path: string, value: string = ''): ImageNode {
  return { ...ROOT, path, value };
}

async function populated(profile = PROFILE_C_4_17): Promise<ReturnType<typeof createXenstore>> {
  const xenstore = createXenstore({ profile });
  const client = xenstore.connect(domId(0));
  await client.write('/vm/name', 'one');
  await client.write(
    '/vm/binary',
    Uint8Array.from({ length: 256 }, (_, i) => i),
  );
  for (const name of ['z', 'a', 'm']) await client.mkdir(`/vm/order/${name}`);
  await client.setPermissions('/vm/name', [
    { domid: 3, access: 'b' },
    { domid: 4, access: 'r' },
    { domid: 5, access: 'w' },
  ]);
  await client.setPermissions('@releaseDomain', [
    { domid: 0, access: 'n' },
    { domid: 7, access: 'r' },
  ]);
  return xenstore;
}

/** Bytes of a dump as a stream of the other byte order. */
function bigEndian(bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  const view = new DataView(copy.buffer);
  const swap16 = (at: number): void => view.setUint16(at, view.getUint16(at, true), false);
  const swap32 = (at: number): void => view.setUint32(at, view.getUint32(at, true), false);
  view.setUint32(XS_STATE_PREAMBLE.offset.flags, 1, false);
  for (let at: number = XS_STATE_PREAMBLE.size; at < copy.length;) {
    const type = view.getUint32(at, true);
    const length = view.getUint32(at + XS_STATE_RECORD_HEADER.offset.length, true);
    swap32(at);
    swap32(at + XS_STATE_RECORD_HEADER.offset.length);
    const body = at + XS_STATE_RECORD_HEADER.size;
    if (type === XS_STATE_TYPE_NODE) {
      const { offset } = XS_STATE_NODE;
      const permissionCount = view.getUint16(body + offset.perm_n, true);
      for (const field of [offset.path_len, offset.data_len, offset.ta_access, offset.perm_n])
        swap16(body + field);
      for (let i = 0; i < permissionCount; i++) swap16(body + XS_STATE_NODE.size + i * 4 + 2);
    }
    at = body + length;
  }
  return copy;
}

describe('dump', () => {
  it.each(PROFILES)('$name: what is restored is what was saved', async (profile) => {
    const xenstore = await populated(profile);
    const image = xenstore.store.save();
    const bytes = encodeDump(image);
    expect(decodeDump(bytes)).toEqual(image);
    const restored = new XenstoreStore({ profile });
    restored.load(decodeDump(bytes));
    expect(restored.save()).toEqual(image);
    expect(restored.nodeCount).toBe(xenstore.store.nodeCount);
    expect(restored.verify()).toEqual([]);
    xenstore.close();
  });

  it.each(PROFILES)('$name: a dump of another profile’s daemon can be restored', async (profile) => {
    const xenstore = await populated();
    const restored = new XenstoreStore({ profile });
    restored.load(xenstore.store.save());
    const byPath = (image: StoreImage): Map<string, ImageNode> =>
      new Map(image.filter(({ path }) => path.startsWith('/vm')).map((entry) => [entry.path, entry]));
    expect(byPath(restored.save())).toEqual(byPath(xenstore.store.save()));
    xenstore.close();
  });

  it('permissions of a domain that died stay without effect for a later one of its id', async () => {
    const xenstore = await populated();
    xenstore.releaseDomain(domId(4));
    const image = decodeDump(encodeDump(xenstore.store.save()));
    expect(image.find(({ path }) => path === '/vm/name')!.permissions).toEqual([
      { domid: 3, access: 'b', isStale: false },
      { domid: 4, access: 'r', isStale: true },
      { domid: 5, access: 'w', isStale: false },
    ]);
    const restored = createXenstore();
    restored.store.load(image);
    const entries = await restored.connect(domId(0)).getPermissions('/vm/name');
    expect(entries.map(({ domid }) => domid)).toEqual([3, 5]);
    xenstore.close();
    restored.close();
  });

  it('special names come first and once, wherever the daemon keeps them', async () => {
    for (const profile of PROFILES) {
      const xenstore = await populated(profile);
      const paths = xenstore.store.save().map(({ path }) => path);
      expect(paths.slice(0, 3)).toEqual(['@releaseDomain', '@introduceDomain', '/']);
      expect(paths.filter((path) => path.includes('@'))).toHaveLength(2);
      xenstore.close();
    }
  });

  it('a large directory and a deep path are saved and restored', () => {
    const names = Array.from({ length: 5000 }, (_, i) => node(`/wide/${i}`));
    const deep = Array.from({ length: 400 }, (_, i) => node('/d'.repeat(i + 1)));
    const image = [ROOT, node('/wide'), ...names, ...deep];
    const store = new XenstoreStore();
    store.load(decodeDump(encodeDump(image)));
    expect(store.save().filter(({ path }) => path.startsWith('/'))).toEqual(image);
  });

  it('restoring replaces what the store began with', () => {
    const store = new XenstoreStore();
    expect(store.nodeCount).toBeGreaterThan(1);
    store.load([ROOT, node('/only', 'this')]);
    expect(store.save().filter(({ path }) => path.startsWith('/'))).toEqual([ROOT, node('/only', 'this')]);
  });

  it('a store with connections cannot be loaded', () => {
    const xenstore = createXenstore();
    xenstore.connect(domId(0));
    expect(() => xenstore.store.load([ROOT])).toThrow(TypeError);
    xenstore.close();
  });
});

describe('xenstore-migration.md', () => {
  it('Header: ident and version are big-endian, records are multiples of 8 bytes, END is last', () => {
    const bytes = encodeDump([ROOT, node('/a', 'v')]);
    expect([...bytes.subarray(0, 16)]).toEqual([...Buffer.from('xenstore'), 0, 0, 0, 1, 0, 0, 0, 0]);
    expect(bytes.length % 8).toBe(0);
    expect([...bytes.subarray(-8)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
    // GLOBAL_DATA: no descriptors.
    expect([...bytes.subarray(16, 32)]).toEqual([
      1, 0, 0, 0, 8, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255,
    ]);
  });

  it('NODE_DATA: layout of a node with two permissions', () => {
    const permissions = [
      { domid: 0x1234, access: 'b', isStale: false },
      { domid: 5, access: 'r', isStale: true },
    ] as const;
    const bytes = encodeDump([{ path: '/a', value: 'xy', permissions }]);
    const record = bytes.subarray(32, -8);
    expect(Buffer.from(record).toString('hex').match(/.{16}/g)).toEqual([
      '0500000020000000',
      '0000000000000000',
      '0300020000000200',
      '6200341272010500',
      '2f61007879000000',
    ]);
  });

  it('a big-endian stream and one of version 2 are read alike', async () => {
    const xenstore = await populated();
    const image = xenstore.store.save();
    const bytes = encodeDump(image);
    expect(decodeDump(bigEndian(bytes))).toEqual(image);
    bytes[11] = 2;
    expect(decodeDump(bytes)).toEqual(image);
    xenstore.close();
  });

  it('records of connections and transactions, and nodes within transactions, are passed over', () => {
    const bytes = encodeDump([ROOT, node('/pending', 'x')]);
    const at = bytes.length - 8 - 40;
    const view = new DataView(bytes.buffer);
    expect(view.getUint32(at, true)).toBe(XS_STATE_TYPE_NODE);
    view.setUint32(at + 8, 9, true); // conn-id
    expect(decodeDump(bytes)).toEqual([ROOT]);
    view.setUint32(at, XS_STATE_TYPE_TA, true);
    expect(decodeDump(bytes)).toEqual([ROOT]);
    view.setUint32(at, XS_STATE_TYPE_WATCH_EXT, true);
    expect(() => decodeDump(bytes)).toThrow('unknown type 8'); // only from version 2 on
  });
});

/** The class of what loading these bytes throws. */
function loadingError(bytes: Uint8Array): unknown {
  try {
    new XenstoreStore().load(decodeDump(bytes));
  } catch (error) {
    return (error as Error).constructor;
  }
  return undefined;
}

describe('a bad dump', () => {
  const good = encodeDump([ROOT, node('/a', '1'), node('/a/b', '2')]);
  const changed = (change: (view: DataView) => void): Uint8Array => {
    const bytes = good.slice();
    change(new DataView(bytes.buffer));
    return bytes;
  };
  const record3 = 32 + 8 + 24; // the second node, `/a`
  const cases: readonly (readonly [string, Uint8Array, string])[] = [
    ['empty', new Uint8Array(0), 'no xenstore dump'],
    ['something else', new TextEncoder().encode('{"nodes": [], "version": 1}'), 'no xenstore dump'],
    ['a version to come', changed((view) => view.setUint32(8, 3)), 'version 3 (offset 8)'],
    ['unknown flags', changed((view) => view.setUint32(12, 2)), 'unknown flags 0x2 (offset 12)'],
    ['cut in a record', good.subarray(0, -20), 'Record 4 of the dump (offset'],
    ['cut before END', good.subarray(0, -8), 'the dump ends without an END record'],
    ['with something behind END', Uint8Array.from([...good, ...new Uint8Array(8)]), 'follows the END record'],
    ['unknown type', changed((view) => view.setUint32(record3, 99, true)), 'unknown type 99'],
    [
      'a record too long',
      changed((view) => view.setUint32(record3 + 4, 1 << 30, true)),
      '1073741824 bytes long',
    ],
    [
      'a path too long for its record',
      changed((view) => view.setUint16(record3 + 16, 500, true)),
      'do not fit',
    ],
    ['no permissions', changed((view) => view.setUint16(record3 + 22, 0, true)), 'without permissions'],
    ['a permission letter', changed((view) => view.setUint8(record3 + 24, 0x78)), 'no permission: "x"'],
    ['a path without its NUL', changed((view) => view.setUint8(record3 + 30, 0x78)), 'no path: "/ax"'],
    [
      'a path of bad characters',
      changed((view) => view.setUint8(record3 + 29, 0x20)),
      'no path: "/ \\u0000"',
    ],
    ['a node before its parent', encodeDump([ROOT, node('/a/b')]), '/a/b comes before its parent'],
    ['a node twice', encodeDump([ROOT, node('/a'), node('/a')]), '/a a second time'],
    ['a value too long', encodeDump([ROOT, node('/a', 'x'.repeat(5000))]), 'a value of 5000 bytes'],
  ];

  it.each(cases)('%s: DumpError says what and where', (_name, bytes, message) => {
    expect(() => decodeDump(bytes)).toThrow(DumpError);
    expect(() => decodeDump(bytes)).toThrow(message);
  });

  it('the store names the node that it refuses', () => {
    const store = new XenstoreStore({ domainExists: (domid) => domid === 0 });
    const foreign = { ...node('/a'), permissions: [{ domid: 9, access: 'n', isStale: false }] as const };
    expect(() => store.load([ROOT, foreign])).toThrow('The store refuses node 2, /a: ENOENT');
  });

  it('any damage is a DumpError or another valid dump, never anything else', () => {
    const seed = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);
    const runs = 300 * Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);
    const damage = fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(damage, fc.nat(good.length), (bytes, cut) => {
        const damaged = good.slice(0, good.length - (cut % 16));
        for (const [at, value] of bytes) if (at < damaged.length) damaged[at] = value;
        expect([undefined, DumpError]).toContain(loadingError(damaged));
      }),
      { seed, numRuns: runs },
    );
  });
});
