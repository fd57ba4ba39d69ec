import { VIRTIO_F_RING_PACKED, featureBit } from '@virtlab/abi/virtio';
import { VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import { closeFd, memfdCreate } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { describe, expect, it } from 'vitest';
import { answerTo, HeldDevice } from './testing/held-device.ts';
import {
  BASE_FEATURES,
  type KeptInflight,
  RawMachine,
  RawPeer,
  RawRing,
  USER_BASE,
  initialBase,
  until,
} from './testing/raw-peer.ts';

const PACKED = featureBit(VIRTIO_F_RING_PACKED);
const INDIRECT = featureBit(VIRTIO_RING_F_INDIRECT_DESC);
const FORMATS = [
  ['split', BASE_FEATURES],
  ['packed', BASE_FEATURES | PACKED],
  ['packed, INDIRECT', BASE_FEATURES | PACKED | INDIRECT],
] as const;

/** Of the format that the features say, which are negotiated for it. */
async function getInflight(peer: RawPeer, features: bigint): Promise<KeptInflight> {
  await peer.negotiate(features);
  return await peer.getInflight();
}

/** A device that does not finish 1 and 4, and has finished 2 and 3 between them. */
async function startUnfinished(
  peer: RawPeer,
  machine: RawMachine,
  ring: RawRing,
  features: bigint,
  area: KeptInflight | undefined,
): Promise<void> {
  await peer.negotiate(features);
  if (area !== undefined) await peer.setInflight(area);
  await peer.setMemory(machine);
  await peer.startRing(ring, initialBase(features));
  await peer.enable(0);
  await peer.driverOk();
  ring.send(1, 2, 3, 4);
  await until('all are taken', () => peer.device.heldCount === 4);
  peer.device.finish(2, 3);
  expect(ring.receive().map(({ tag }) => tag)).toEqual([2, 3]);
}

async function expectRest(peer: RawPeer, ring: RawRing): Promise<void> {
  await until('they are taken again', () => peer.device.heldCount === 2);
  expect(peer.device.taken.slice(-2)).toEqual([1, 4]);
  peer.device.finish();
  ring.send(5);
  await until('and on it goes', () => peer.device.heldCount === 1);
  peer.device.finish(5);
  expect(ring.receive()).toEqual([1, 4, 5].map((tag) => ({ tag, answer: answerTo(tag) })));
}

const PAUSES: readonly [string, (peer: RawPeer, machine: RawMachine, ring: RawRing) => Promise<unknown>][] = [
  ['SET_MEM_TABLE', async (peer, machine) => await peer.setMemory(machine)],
  [
    'SET_VRING_ENABLE 0 and 1',
    async (peer) => {
      await peer.enable(0, false);
      await peer.enable(0);
    },
  ],
  [
    'GET_VRING_BASE and a start there',
    async (peer, _, ring) => {
      const { num } = await peer.ask('GET_VRING_BASE', { index: 0, num: 0 });
      await peer.startRing(ring, num);
    },
  ],
];

describeWithFfi('requests that a device does not finish before `drainTimeoutMs`', () => {
  describe.each(FORMATS)('%s', (_, features) => {
    describe.each([false, true])('INFLIGHT_SHMFD %s', (hasArea) => {
      it.each(PAUSES)('%s: each is done again, once, and nothing that was finished', async (__, pause) => {
        using machine = new RawMachine();
        using ring = new RawRing(machine, 0, features);
        await using peer = new RawPeer({ drainTimeoutMs: 20 });
        const area = hasArea ? await getInflight(peer, features) : undefined;
        await startUnfinished(peer, machine, ring, features, area);
        await pause(peer, machine, ring);
        await expectRest(peer, ring);
        expect(ring.queue.violation).toBeUndefined();
        if (area !== undefined) closeFd(area.fd);
      });
    });

    it.each(['GET_VRING_BASE', 'SET_STATUS 0'])(
      'INFLIGHT_SHMFD: after %s another process finds them in the area',
      async (how) => {
        using machine = new RawMachine();
        using ring = new RawRing(machine, 0, features);
        const first = new RawPeer({ drainTimeoutMs: 20 });
        const area = await getInflight(first, features);
        await startUnfinished(first, machine, ring, features, area);
        if (how === 'SET_STATUS 0') await first.ask('SET_STATUS', 0n);
        const { num } = await first.ask('GET_VRING_BASE', { index: 0, num: 0 });
        await first[Symbol.asyncDispose]();
        await using second = new RawPeer();
        await second.negotiate(features);
        await second.setInflight(area);
        await second.setMemory(machine);
        await second.startRing(ring, num);
        await second.enable(0);
        await second.driverOk();
        await expectRest(second, ring);
        expect(ring.queue.violation).toBeUndefined();
        closeFd(area.fd);
      },
    );

    it('INFLIGHT_SHMFD: another ring in the same area begins where the other side says', async () => {
      using machine = new RawMachine();
      using old = new RawRing(machine, 0, features);
      await using peer = new RawPeer({ drainTimeoutMs: 20 });
      const area = await getInflight(peer, features);
      await startUnfinished(peer, machine, old, features, area);
      await peer.ask('GET_VRING_BASE', { index: 0, num: 0 });
      using ring = new RawRing(machine, 0, features);
      await peer.startRing(ring, initialBase(features));
      ring.send(9);
      await until('the first of it', () => peer.device.heldCount === 1);
      peer.device.finish(9);
      expect(ring.receive()).toEqual([{ tag: 9, answer: answerTo(9) }]);
      expect(peer.host.violation).toBeUndefined();
      closeFd(area.fd);
    });

    it('without INFLIGHT_SHMFD another process is told of no request that was finished', async () => {
      using machine = new RawMachine();
      using ring = new RawRing(machine, 0, features);
      const first = new RawPeer({ drainTimeoutMs: 20 });
      await startUnfinished(first, machine, ring, features, undefined);
      const { num } = await first.ask('GET_VRING_BASE', { index: 0, num: 0 });
      await first[Symbol.asyncDispose]();
      await using second = new RawPeer();
      await second.negotiate(features);
      await second.setMemory(machine);
      await second.startRing(ring, num);
      await second.enable(0);
      await second.driverOk();
      // 4 is the ring's to give; what 1 was, nobody knows.
      await until('the last', () => second.device.heldCount === 1);
      second.device.finish(4);
      ring.send(5);
      await until('and on it goes', () => second.device.heldCount === 1);
      second.device.finish(5);
      expect(second.device.taken).toEqual([4, 5]);
      expect(ring.receive().map(({ tag }) => tag)).toEqual([4, 5]);
      expect(ring.queue.violation).toBeUndefined();
    });
  });
});

describeWithFfi('rings that pause for a change', () => {
  it('SET_MEM_TABLE that is refused: they go on with the table that they have', async () => {
    using machine = new RawMachine();
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await using peer = new RawPeer();
    peer.device.isPrompt = true;
    await peer.bringUp(machine, ring);
    ring.send(1);
    await until('the first', () => peer.device.finished.length === 1);
    const shrinkable = memfdCreate('shrinkable', 4096, { seal: false });
    const more = { guestAddress: 1n << 40n, userAddress: 1n << 41n, size: 4096n, mmapOffset: 0n };
    const { fd, description } = machine;
    const outcome = await peer.try('SET_MEM_TABLE', [description, more], fd, shrinkable);
    expect(outcome.ok).toBe(false);
    expect(peer.backend.status()).toMatchObject({ regionCount: 1, vrings: [{ isRunning: true }, {}] });
    ring.send(2);
    await until('the second', () => peer.device.finished.length === 2);
    expect(ring.receive()).toHaveLength(2);
    closeFd(shrinkable);
  });

  it('REM_MEM_REG of what one ring lies in: it stays stopped, which is the answer, and the others go on', async () => {
    const high = 1n << 32n;
    const index = RawPeer.memberCount;
    using machine = new RawMachine();
    using other = new RawMachine();
    using gone = new RawRing(machine, 0, BASE_FEATURES);
    using ring = new RawRing(machine, index, BASE_FEATURES);
    await using peer = new RawPeer({ device: new HeldDevice(4) });
    peer.device.isPrompt = true;
    await peer.negotiate();
    const region = { ...other.description, guestAddress: high, userAddress: USER_BASE + high };
    await peer.ask('SET_MEM_TABLE', [machine.description, region], machine.fd, other.fd);
    for (const { each, offset } of [
      { each: gone, offset: high },
      { each: ring, offset: 0n },
    ]) {
      await peer.ask('SET_VRING_NUM', { index: each.index, num: 16 });
      await peer.ask('SET_VRING_BASE', { index: each.index, num: 0 });
      const { descriptorArea, driverArea, deviceArea, ...rest } = each.userAddresses();
      await peer.ask('SET_VRING_ADDR', {
        ...rest,
        descriptorArea: descriptorArea + offset,
        driverArea: driverArea + offset,
        deviceArea: deviceArea + offset,
      });
      await peer.ask('SET_VRING_KICK', { index: each.index, hasFd: true }, each.kick.fd);
      await peer.enable(each.index);
    }
    await peer.driverOk();
    ring.send(1);
    await until('the first', () => peer.device.finished.length === 1);
    expect((await peer.try('REM_MEM_REG', region)).ok).toBe(false);
    const { regionCount, vrings } = peer.backend.status();
    expect([regionCount, vrings[0]!.isRunning, vrings[index]!.isRunning]).toEqual([1, false, true]);
    ring.send(2);
    await until('the second', () => peer.device.finished.length === 2);
    expect(ring.receive()).toHaveLength(2);
  });
});
