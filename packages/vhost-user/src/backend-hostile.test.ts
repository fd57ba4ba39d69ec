import { VHOST_USER } from '@virtlab/abi/vhost-user';
import { VIRTIO_F_RING_PACKED, featureBit } from '@virtlab/abi/virtio';
import { EventFd, closeFd, dupFd, memfdCreate, openFdCount, socketPair } from '@virtlab/linux';
import { describeWithFfi, semaphoreFd } from '@virtlab/linux/testing';
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { encodeFrame } from './frame-reader.ts';
import { REQUESTS, type MessageShape } from './messages.ts';
import { CONTEXT } from './testing/channel-pair.ts';
import { HeldDevice } from './testing/held-device.ts';
import { requestArbitraries } from './testing/payload-arbitraries.ts';
import { BASE_FEATURES, RawMachine, RawPeer, RawRing, USER_BASE, until } from './testing/raw-peer.ts';

const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);
const FACTOR = Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);

/** One after the other, what QEMU sends until the device is live. */
type Step = (peer: RawPeer, machine: RawMachine, ring: RawRing) => Promise<unknown>;
const STEPS: readonly Step[] = [
  (peer) => peer.ask('GET_FEATURES', undefined),
  (peer) => peer.ask('GET_PROTOCOL_FEATURES', undefined),
  (peer) => peer.negotiate(),
  (peer) => peer.ask('GET_QUEUE_NUM', undefined),
  (peer) => peer.ask('GET_CONFIG', { offset: 0, bytes: new Uint8Array(16), isMigration: false }),
  async (peer) => {
    const area = { size: 0n, offset: 0n, queueCount: 1, queueSize: 16 };
    const outcome = await peer.try('GET_INFLIGHT_FD', area);
    if (!outcome.ok) throw new Error(outcome.fault.message);
    const fd = outcome.value.fds.take()!;
    await peer.ask('SET_INFLIGHT_FD', outcome.value.value, fd);
    closeFd(fd);
  },
  (peer, machine) => peer.setMemory(machine),
  (peer, _, ring) => peer.ask('SET_VRING_CALL', { index: 0, hasFd: true }, ring.call.fd),
  (peer) => peer.ask('SET_VRING_NUM', { index: 0, num: 16 }),
  (peer, _, ring) => peer.ask('SET_VRING_ADDR', ring.userAddresses()),
  (peer, _, ring) => peer.ask('SET_VRING_KICK', { index: 0, hasFd: true }, ring.kick.fd),
  (peer) => peer.enable(0),
  (peer) => peer.driverOk(),
  async (peer, _, ring) => {
    ring.send(1);
    await until('it is taken', () => peer.device.heldCount === 1);
  },
  (peer) => peer.ask('SET_STATUS', 0n),
  (peer) => peer.ask('GET_VRING_BASE', { index: 0, num: 0 }),
];

describeWithFfi('device-hosting role: a peer that goes away', () => {
  it.each(STEPS.map((_, count) => [count] as const))(
    'after %i messages leaves nothing behind',
    async (count) => {
      const before = openFdCount();
      {
        using machine = new RawMachine();
        using ring = new RawRing(machine, 0, BASE_FEATURES);
        await using peer = new RawPeer({ drainTimeoutMs: 5 });
        for (const step of STEPS.slice(0, count)) await step(peer, machine, ring);
        expect(await peer.end()).toEqual({ fault: undefined, error: undefined });
        expect(peer.host.status).toBe(0);
        expect(peer.device.heldCount).toBe(0);
        expect(peer.aio.leaks()).toEqual([]);
      }
      expect(openFdCount()).toBe(before);
    },
  );

  it('while a ring is being stopped', async () => {
    const before = openFdCount();
    {
      using machine = new RawMachine();
      using ring = new RawRing(machine, 0, BASE_FEATURES);
      await using peer = new RawPeer({ drainTimeoutMs: 60_000 });
      await peer.bringUp(machine, ring);
      ring.send(1);
      await until('it is taken', () => peer.device.heldCount === 1);
      const stopping = peer.try('GET_VRING_BASE', { index: 0, num: 0 });
      const table = peer.try('SET_MEM_TABLE', [machine.description], machine.fd);
      await new Promise((resolve) => setTimeout(resolve, 0));
      expect((await peer.end()).fault).toBeUndefined();
      expect((await stopping).ok || (await table).ok).toBe(false);
      await until('the timers are gone', () => peer.aio.leaks().length === 0);
    }
    await until('all is closed', () => openFdCount() === before);
    expect(openFdCount()).toBe(before);
  });
});

describeWithFfi('device-hosting role: wrong orders and wrong values', () => {
  const faults: readonly (readonly [
    string,
    (peer: RawPeer, machine: RawMachine, ring: RawRing) => Promise<unknown>,
    RegExp,
  ])[] = [
    [
      'a kick before size and addresses',
      async (p, _, r) => {
        await p.enable(0);
        return await p.try('SET_VRING_KICK', { index: 0, hasFd: true }, r.kick.fd);
      },
      /refused/,
    ],
    ['a size of 0', (p) => p.try('SET_VRING_NUM', { index: 0, num: 0 }), /refused/],
    ['a size above the device’s', (p) => p.try('SET_VRING_NUM', { index: 0, num: 32 }), /refused/],
    ['a base of more than 16 bits', (p) => p.try('SET_VRING_BASE', { index: 0, num: 0x1_0000 }), /refused/],
    ['a status of more than 8 bits', (p) => p.try('SET_STATUS', 0x100n), /refused/],
    ['protocol features that were not offered', (p) => p.try('SET_PROTOCOL_FEATURES', 1n << 40n), /refused/],
    ['a request that is not supported', (p) => p.try('GPU_SET_SOCKET', undefined, 0), /refused/],
    ['a kick that is a file', (p, m) => p.try('SET_VRING_KICK', { index: 0, hasFd: true }, m.fd), /refused/],
    [
      'a kick that wakes once for each that was written (EFD_SEMAPHORE)',
      async (p) => {
        const fd = semaphoreFd();
        const outcome = await p.try('SET_VRING_KICK', { index: 0, hasFd: true }, fd);
        closeFd(fd);
        return outcome;
      },
      /refused/,
    ],
    ['a call that is a file', (p, m) => p.try('SET_VRING_CALL', { index: 0, hasFd: true }, m.fd), /refused/],
    ['a region to remove that is not there', (p, m) => p.try('REM_MEM_REG', m.description), /refused/],
  ];

  it.each(faults)('%s: refused, and the connection lives on', async (_, send, message) => {
    const before = openFdCount();
    {
      using machine = new RawMachine();
      using ring = new RawRing(machine, 0, BASE_FEATURES);
      await using peer = new RawPeer();
      await peer.negotiate();
      expect(((await send(peer, machine, ring)) as { fault: { message: string } }).fault.message).toMatch(
        message,
      );
      await peer.setMemory(machine);
      peer.device.isPrompt = true;
      await peer.startRing(ring);
      await peer.enable(0);
      await peer.driverOk();
      ring.send(1);
      await until('it is done', () => peer.device.finished.length === 1);
    }
    expect(openFdCount()).toBe(before);
  });

  it.each([
    ['a descriptor table in no region', { descriptorArea: USER_BASE - 0x1000n }],
    ['guest addresses for user addresses', { descriptorArea: 0n, driverArea: 0x1000n, deviceArea: 0x2000n }],
    ['a used ring over the end of a region', { deviceArea: USER_BASE + (1n << 20n) - 8n }],
  ])('%s: the ring does not start, the connection lives on', async (_, areas) => {
    using machine = new RawMachine();
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await using peer = new RawPeer();
    await peer.negotiate();
    await peer.setMemory(machine);
    await peer.ask('SET_VRING_NUM', { index: 0, num: 16 });
    await peer.ask('SET_VRING_ADDR', { ...ring.userAddresses(), ...areas });
    await peer.enable(0);
    expect(await peer.try('SET_VRING_KICK', { index: 0, hasFd: true }, ring.kick.fd)).toMatchObject({
      fault: { code: 'REFUSED' },
    });
    await peer.ask('GET_STATUS', undefined);
  });

  it('"REPLY_ACK": an acknowledgement cannot say why it is none; who serves is told, once for each', async () => {
    const reasons: string[] = [];
    await using peer = new RawPeer({ onRefusal: (reason) => reasons.push(reason) });
    await peer.negotiate();
    using event = EventFd.create();
    await peer.try('SET_VRING_NUM', { index: 1, num: 0 });
    await peer.try('SET_STATUS', 0x100n);
    await peer.try('GPU_SET_SOCKET', undefined, event.fd);
    await peer.ask('SET_VRING_NUM', { index: 1, num: 16 });
    await peer.try('SET_BACKEND_REQ_FD', undefined, event.fd);
    await peer.try('SET_VRING_NUM', { index: 1, num: 0 });
    expect(reasons).toEqual([
      'SET_VRING_NUM: queue 1 of 0 entries, not 1 to 16',
      'SET_STATUS: status 0x100',
      'GPU_SET_SOCKET is not supported',
      expect.stringMatching(/^SET_BACKEND_REQ_FD: /),
      'SET_VRING_NUM: queue 1 of 0 entries, not 1 to 16',
    ]);
    // What ends the connection is told by its end.
    peer.sender.post('SET_VRING_NUM', { index: 1, num: 0 });
    expect((await peer.backend.ended).fault?.message).toBe(reasons[0]);
    expect(reasons).toHaveLength(5);
  });

  it('a fault without an acknowledgement ends the connection with a clear message', async () => {
    await using peer = new RawPeer();
    await peer.negotiate();
    peer.sender.post('SET_VRING_NUM', { index: 0, num: 1000 });
    expect((await peer.backend.ended).fault).toEqual({
      code: 'BAD_VALUE',
      message: 'SET_VRING_NUM: queue 0 of 1000 entries, not 1 to 16',
    });
  });

  it('a packed ring at a base outside it, and a split ring with a size that is no power of two', async () => {
    using machine = new RawMachine();
    const features = BASE_FEATURES | featureBit(VIRTIO_F_RING_PACKED);
    using ring = new RawRing(machine, 0, features);
    await using peer = new RawPeer();
    await peer.negotiate(features);
    await peer.setMemory(machine);
    await peer.enable(0);
    await expect(peer.startRing(ring, 0x8000_8010)).rejects.toThrow(/SET_VRING_KICK/);
    await peer.ask('SET_FEATURES', BASE_FEATURES);
    await peer.ask('SET_VRING_NUM', { index: 0, num: 12 });
    expect(await peer.try('SET_VRING_KICK', { index: 0, hasFd: true }, ring.kick.fd)).toMatchObject({
      ok: false,
    });
  });
});

/** A message of any type, in order by itself, with as many descriptors as it wants, one more or none. */
const message = fc.constantFrom(...(Object.keys(VHOST_USER) as (keyof typeof VHOST_USER)[])).chain((name) =>
  fc.record({
    name: fc.constant(name),
    payload: requestArbitraries(false)[name] as fc.Arbitrary<unknown>,
    needsReply: fc.boolean(),
    extraFds: fc.constantFrom(0, 0, 0, 0, 0, 0, 0, 1, -1),
    kind: fc.nat(2),
    cut: fc.constantFrom(0, 0, 0, 0, 0, 0, 0, 0, 1),
  }),
);

function someFd(kind: number): number {
  if (kind === 0) return EventFd.create().fd;
  if (kind === 1) return memfdCreate('fuzz', 4096);
  const [left, right] = socketPair();
  closeFd(right);
  return left;
}

describeWithFfi('device-hosting role: anything in any order', () => {
  it('ends the connection or not, leaks nothing, and the device serves the next', async () => {
    const device = new HeldDevice();
    const before = openFdCount();
    const property = fc.asyncProperty(fc.array(message, { maxLength: 30, size: 'max' }), async (messages) => {
      await using peer = new RawPeer({ device, drainTimeoutMs: 1, setMtu: () => true });
      await peer.ask('SET_PROTOCOL_FEATURES', await peer.ask('GET_PROTOCOL_FEATURES', undefined));
      await peer.ask('SET_FEATURES', BASE_FEATURES);
      for (const { name, payload, needsReply, extraFds, kind, cut } of messages) {
        const shape = REQUESTS[name] as MessageShape<unknown, unknown>;
        const bytes = encodeFrame(shape.id, shape.payload.encode(payload, CONTEXT), { needsReply });
        const count = Math.max(0, Math.min(8, shape.fds(payload).min + extraFds));
        const fds = Array.from({ length: count }, () => someFd(kind));
        if (!peer.stream.closed) sendQuietly(peer, bytes.slice(0, bytes.length - cut), fds);
        fds.forEach(closeFd);
      }
      const { error } = await peer.end();
      expect(error).toBeUndefined();
      expect(peer.host.status).toBe(0);
    });
    await fc.assert(property, { seed: SEED, numRuns: 150 * FACTOR });
    await until('all is closed', () => openFdCount() <= before);
    expect(openFdCount()).toBe(before);
    // And the device is as good as new.
    using machine = new RawMachine();
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await using peer = new RawPeer({ device });
    device.isPrompt = true;
    await peer.bringUp(machine, ring);
    ring.send(1);
    await until('it is done', () => device.finished.length === 1);
  });
});

describeWithFfi('device-hosting role: anything, to a device that is live', () => {
  it('requests are done or the connection ends, and nothing leaks', async () => {
    const before = openFdCount();
    const property = fc.asyncProperty(
      fc.nat(STEPS.length - 3),
      fc.array(message, { minLength: 1, maxLength: 6 }),
      fc.boolean(),
      async (stepCount, messages, isPrompt) => {
        using machine = new RawMachine();
        using ring = new RawRing(machine, 0, BASE_FEATURES);
        await using peer = new RawPeer({ drainTimeoutMs: 1 });
        for (const step of STEPS.slice(0, stepCount)) await step(peer, machine, ring);
        peer.device.isPrompt = isPrompt;
        for (const { name, payload, needsReply } of messages) {
          const shape = REQUESTS[name] as MessageShape<unknown, unknown>;
          const fds = Array.from({ length: Math.min(8, shape.fds(payload).min) }, () => dupFd(machine.fd));
          const bytes = encodeFrame(shape.id, shape.payload.encode(payload, CONTEXT), { needsReply });
          if (!peer.stream.closed) sendQuietly(peer, bytes, fds);
          fds.forEach(closeFd);
          if (ring.queue.freeCount > 4 && ring.queue.inFlightCount < 4)
            ring.send(50 + ring.queue.inFlightCount);
        }
        await new Promise((resolve) => setTimeout(resolve, 0));
        expect((await peer.end()).error).toBeUndefined();
        expect([peer.host.status, peer.device.heldCount]).toEqual([0, 0]);
      },
    );
    await fc.assert(property, { seed: SEED, numRuns: 60 * FACTOR });
    await until('all is closed', () => openFdCount() <= before);
    expect(openFdCount()).toBe(before);
  });
});

function sendQuietly(peer: RawPeer, bytes: Uint8Array, fds: readonly number[]): void {
  try {
    peer.stream.send(bytes, fds);
  } catch {
    // The other side has ended the connection.
  }
}
