import { existsSync, readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openFdCount } from './fd.ts';
import { inNetworkNamespace } from './network-namespace.ts';
import { TAP_CLOSED, TAP_EMPTY, TAP_FRAME_SIZE_MAX, TAP_HEADER_SIZE, TapDevice } from './tap.ts';
import { linuxFfi } from './ffi.ts';
import { NetworkNamespace } from './testing/network-namespace.ts';

const ffi = linuxFfi();
const reason = ffi.available ? NetworkNamespace.unavailable() : ffi.reason;
// VIRTLAB_NO_NETNS=1: whoever runs the tests knows that this machine does not allow it, and has said so.
const isRequired = process.env['VIRTLAB_REQUIRE_PEERS'] === '1' && process.env['VIRTLAB_NO_NETNS'] !== '1';
if (reason !== undefined && isRequired) throw new Error(reason);

const into = new Uint8Array(TAP_HEADER_SIZE + TAP_FRAME_SIZE_MAX);

/** An ARP request for an address that the kernel has, behind an empty header. */
function arpRequest(): Uint8Array {
  const sender = [2, 0, 0, 0, 0, 9];
  const arp = [0, 1, 8, 0, 6, 4, 0, 1, ...sender, 10, 77, 0, 2, 0, 0, 0, 0, 0, 0, 10, 77, 0, 1];
  return Uint8Array.from([
    ...Array.from({ length: TAP_HEADER_SIZE }, () => 0),
    ...Array.from({ length: 6 }, () => 0xff),
    ...sender,
    8,
    6,
    ...arp,
  ]);
}

/** The first frame of this type that the kernel sends. */
async function readType(tap: TapDevice, type: number): Promise<Uint8Array> {
  for (;;) {
    const size = tap.read(into);
    if (size === TAP_CLOSED) throw new Error('closed');
    const at = TAP_HEADER_SIZE + 12;
    if (size > 0 && type === into[at]! * 256 + into[at + 1]!) return into.slice(0, size);
    await new Promise((resolve) => void setImmediate(resolve));
  }
}

describe.skipIf(reason !== undefined)(`a TAP interface${reason === undefined ? '' : ` (${reason})`}`, () => {
  it('exchanges frames with the kernel of the namespace that it is in, and goes away with its owner', async () => {
    await using namespace = await NetworkNamespace.create();
    const before = openFdCount();
    {
      using tap = TapDevice.open({ name: 'vl0', namespace: namespace.path });
      expect(existsSync('/sys/class/net/vl0'), 'not in ours').toBe(false);
      expect(tap.read(into)).toBe(TAP_EMPTY);
      expect(tap.write(arpRequest(), 54), 'the interface is down').toBe(false);
      await namespace.check('ip', 'address', 'add', '10.77.0.1/24', 'dev', 'vl0');
      await namespace.check('ip', 'link', 'set', 'vl0', 'up');
      expect(tap.write(arpRequest(), 54)).toBe(true);
      const answer = await readType(tap, 0x0806);
      expect([...answer.subarray(TAP_HEADER_SIZE, TAP_HEADER_SIZE + 6)]).toEqual([2, 0, 0, 0, 0, 9]);
      expect([...answer.subarray(TAP_HEADER_SIZE + 28, TAP_HEADER_SIZE + 32)]).toEqual([10, 77, 0, 1]);
      const offloads = { checksum: true, tso4: true, tso6: true, ecn: true, uso: false };
      expect(tap.setOffloads(offloads)).toBe(true);
    }
    expect(await namespace.check('ip', '-o', 'link')).not.toContain('vl0');
    expect(openFdCount()).toBe(before);
  });

  it('takes no header that does not fit its frame', async () => {
    await using namespace = await NetworkNamespace.create();
    using tap = TapDevice.open({ name: 'vl0', namespace: namespace.path });
    await namespace.check('ip', 'link', 'set', 'vl0', 'up');
    const bad = arpRequest();
    bad.set([1, 0, 0, 0, 0, 0, 0xff, 0xff], 0);
    expect(tap.write(bad, 54)).toBe(false);
  });

  it('several queues of one interface', async () => {
    await using namespace = await NetworkNamespace.create();
    const options = { name: 'vl0', namespace: namespace.path, isMultiQueue: true };
    using first = TapDevice.open(options);
    using second = TapDevice.open(options);
    expect(second.fd).not.toBe(first.fd);
  });

  it('an interface that is deleted is closed', async () => {
    await using namespace = await NetworkNamespace.create();
    using tap = TapDevice.open({ name: 'vl0', namespace: namespace.path });
    await namespace.check('ip', 'link', 'delete', 'vl0');
    expect(tap.read(into)).toBe(TAP_CLOSED);
    expect(tap.write(arpRequest(), 54)).toBe(false);
  });

  it.each([
    ['a name that is in use', { name: 'lo' }, 'EINVAL: ioctl(TUNSETIFF)'],
    ['a namespace that is not there', { name: 'vl0', namespace: '/run/netns/nobody' }, 'ENOENT: open'],
    ['a namespace of another kind', { name: 'vl0', namespace: '/proc/self/ns/uts' }, 'EINVAL: setns'],
    ['a name that is too long', { name: 'sixteen-letters!' }, 'is no name'],
    ['no name', { name: '' }, 'is no name'],
  ])('refuses %s', (_what, options, message) => {
    const before = openFdCount();
    expect(() => TapDevice.open(options)).toThrow(message);
    expect(openFdCount()).toBe(before);
  });

  it('the thread comes back from another namespace, also when the work throws', async () => {
    await using namespace = await NetworkNamespace.create();
    const own = readdirSync('/proc/thread-self/net').length;
    expect(() =>
      inNetworkNamespace(namespace.path, () => {
        throw new Error('work');
      }),
    ).toThrow('work');
    expect(inNetworkNamespace(namespace.path, () => 7)).toBe(7);
    expect(readdirSync('/proc/thread-self/net').length).toBe(own);
  });
});
