import { VHOST_USER_F_PROTOCOL_FEATURES, VHOST_USER_PROTOCOL_F } from '@virtlab/abi/vhost-user';
import { featureBit, VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1 } from '@virtlab/abi/virtio';
import { VIRTIO_RING_F_EVENT_IDX } from '@virtlab/abi/virtio-ring';
import { openFdCount } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { expect, it } from 'vitest';
import { answerTo, HeldDevice } from './testing/held-device.ts';
import {
  BASE_FEATURES,
  initialBase,
  RawMachine,
  RawPeer,
  RawRing,
  RING_FORMATS,
  until,
} from './testing/raw-peer.ts';

const bit = (name: keyof typeof VHOST_USER_PROTOCOL_F): bigint => 1n << BigInt(VHOST_USER_PROTOCOL_F[name]);

describeWithFfi('device-hosting role: requests', () => {
  it.each(RING_FORMATS)('%s: what the driver makes available is done and called', async (_, features) => {
    const before = openFdCount();
    {
      using machine = new RawMachine();
      await using peer = new RawPeer();
      peer.device.isPrompt = true;
      using ring = new RawRing(machine, 0, features);
      await peer.bringUp(machine, ring, features);
      for (let round = 0; round < 6; round += 1) {
        const tags = Array.from({ length: 7 }, (__, at) => round * 7 + at);
        ring.call.read();
        ring.queue.enableCalls();
        ring.send(...tags);
        await until('the answers', () => peer.device.finished.length === (round + 1) * 7);
        expect(ring.receive()).toEqual(tags.map((tag) => ({ tag, answer: answerTo(tag) })));
        expect(ring.call.read()).toBe(true);
      }
      expect(peer.backend.status()).toMatchObject({
        status: 'ACKNOWLEDGE|DRIVER|FEATURES_OK|DRIVER_OK',
        regionCount: 1,
        vrings: [{ isRunning: true, statistics: { requests: 42 } }, { isRunning: false }],
      });
    }
    expect(openFdCount()).toBe(before);
  });

  it.each([0n, featureBit(VIRTIO_F_IN_ORDER)])(
    'SET_VRING_BASE of a new packed ring without its used half, as of DPDK, begins where the available half does',
    async (more) => {
      const features = BASE_FEATURES | featureBit(VIRTIO_F_RING_PACKED) | more;
      using machine = new RawMachine();
      await using peer = new RawPeer();
      peer.device.isPrompt = true;
      using ring = new RawRing(machine, 0, features);
      await peer.negotiate(features);
      await peer.setMemory(machine);
      await peer.startRing(ring, 0x8000);
      await peer.enable(0);
      await peer.driverOk();
      ring.send(1, 2, 3);
      await until('the answers', () => peer.device.finished.length === 3);
      expect(ring.receive().map(({ tag }) => tag)).toEqual([1, 2, 3]);
      expect(await peer.ask('GET_VRING_BASE', { index: 0, num: 0 })).toMatchObject({ num: 0x8006_8006 });
    },
  );

  it('"Ring states": what was available before SET_VRING_KICK is done without a kick', async () => {
    using machine = new RawMachine();
    await using peer = new RawPeer();
    peer.device.isPrompt = true;
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    ring.send(1, 2);
    ring.kick.read();
    await peer.bringUp(machine, ring);
    await until('both', () => peer.device.finished.length === 2);
    expect(ring.receive().map(({ tag }) => tag)).toEqual([1, 2]);
  });

  it('"Ring states": a ring that is started and not enabled waits; enabling it is enough', async () => {
    using machine = new RawMachine();
    await using peer = new RawPeer();
    peer.device.isPrompt = true;
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await peer.negotiate();
    await peer.setMemory(machine);
    await peer.startRing(ring);
    await peer.driverOk();
    ring.send(1);
    await peer.ask('GET_STATUS', undefined);
    expect(peer.device.taken).toEqual([]);
    await peer.enable(0);
    await until('it is done', () => peer.device.finished.length === 1);
    await peer.enable(0, false);
    ring.send(2);
    await peer.ask('GET_STATUS', undefined);
    expect(peer.device.taken).toEqual([1]);
    await peer.enable(0);
    await until('the second', () => peer.device.finished.length === 2);
    expect(ring.receive()).toHaveLength(2);
  });

  it('"Ring states": without the protocol features bit all rings are enabled at once', async () => {
    using machine = new RawMachine();
    await using peer = new RawPeer();
    peer.device.isPrompt = true;
    using ring = new RawRing(machine, 1, BASE_FEATURES);
    await peer.ask('SET_FEATURES', featureBit(VIRTIO_F_VERSION_1));
    await peer.setMemory(machine);
    await peer.startRing(ring);
    ring.send(9);
    await until('it is done', () => peer.device.finished.length === 1);
    expect(await peer.try('SET_VRING_ENABLE', { index: 0, num: 1 })).toMatchObject({ ok: false });
  });

  it('rings start one after the other on a live device, and queues that were never set up may be enabled', async () => {
    using machine = new RawMachine();
    await using peer = new RawPeer();
    peer.device.isPrompt = true;
    using first = new RawRing(machine, 0, BASE_FEATURES);
    using second = new RawRing(machine, 1, BASE_FEATURES);
    await peer.bringUp(machine, first);
    await peer.enable(1);
    await peer.startRing(second);
    second.send(4);
    first.send(5);
    await until('both', () => peer.device.finished.length === 2);
    expect([...first.receive(), ...second.receive()].map(({ tag }) => tag)).toEqual([5, 4]);
  });

  it('SET_VRING_KICK without a descriptor: the ring is polled', async () => {
    using machine = new RawMachine();
    await using peer = new RawPeer();
    peer.device.isPrompt = true;
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await peer.bringUp(machine, ring);
    await peer.ask('SET_VRING_KICK', { index: 0, hasFd: false });
    ring.send(1);
    ring.kick.read();
    await until('the first', () => peer.device.finished.length === 1);
    ring.send(2);
    await until('the second', () => peer.device.finished.length === 2);
    await peer.ask('SET_VRING_CALL', { index: 0, hasFd: false });
    ring.send(3);
    await until('the third', () => peer.device.finished.length === 3);
    expect(ring.receive()).toHaveLength(3);
  });
});

describeWithFfi('device-hosting role: stop and start', () => {
  it.each(RING_FORMATS)(
    '%s: GET_VRING_BASE waits for what the device has, and tells where to go on',
    async (_, features) => {
      using machine = new RawMachine();
      await using peer = new RawPeer({ drainTimeoutMs: 10_000 });
      using ring = new RawRing(machine, 0, features);
      await peer.bringUp(machine, ring, features);
      ring.send(1, 2, 3);
      await until('all are taken', () => peer.device.heldCount === 3);
      const base = peer.ask('GET_VRING_BASE', { index: 0, num: 0 });
      await new Promise((resolve) => setTimeout(resolve, 0));
      ring.send(4);
      peer.device.finish(2, 1, 3);
      const { num } = await base;
      expect(num).toBe(initialBase(features) === 0 ? 3 : 0x8006_8006);
      expect(peer.device.taken).toEqual([1, 2, 3]);
      expect(ring.receive()).toHaveLength(3);
      peer.device.isPrompt = true;
      await peer.startRing(ring, num);
      await until('the fourth', () => peer.device.finished.length === 4);
      expect(ring.receive()).toEqual([{ tag: 4, answer: answerTo(4) }]);
    },
  );

  it('a device that never finishes is made to forget, and the ring goes on where nothing is lost', async () => {
    using machine = new RawMachine();
    await using peer = new RawPeer({ drainTimeoutMs: 20 });
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await peer.bringUp(machine, ring);
    ring.send(1, 2);
    await until('both are taken', () => peer.device.heldCount === 2);
    const { num } = await peer.ask('GET_VRING_BASE', { index: 0, num: 0 });
    expect(num).toBe(0);
    expect(peer.device.heldCount).toBe(0);
    peer.device.isPrompt = true;
    await peer.startRing(ring, num);
    await until('both are done', () => peer.device.finished.length === 2);
    expect(ring.receive().map(({ tag }) => tag)).toEqual([1, 2]);
  });

  it('SET_STATUS 0 comes before GET_VRING_BASE, which still tells where the ring stood', async () => {
    using machine = new RawMachine();
    await using peer = new RawPeer();
    peer.device.isPrompt = true;
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await peer.bringUp(machine, ring);
    ring.send(1, 2, 3);
    await until('all', () => peer.device.finished.length === 3);
    await peer.ask('SET_STATUS', 0n);
    expect(await peer.ask('GET_STATUS', undefined)).toBe(0n);
    expect(peer.device.resetCount).toBe(1);
    await peer.enable(0, false);
    expect(await peer.ask('GET_VRING_BASE', { index: 0, num: 0 })).toEqual({ index: 0, num: 3 });
    // As QEMU starts again: the same session, other features, another ring.
    const features = BASE_FEATURES | featureBit(VIRTIO_RING_F_EVENT_IDX);
    using again = new RawRing(machine, 0, features, 8);
    await peer.ask('SET_FEATURES', features);
    await peer.startRing(again);
    await peer.enable(0);
    await peer.driverOk();
    again.send(7);
    await until('it goes on', () => peer.device.finished.length === 4);
    expect(again.receive()).toHaveLength(1);
  });

  it('RESET_DEVICE disables all rings and resets the device', async () => {
    using machine = new RawMachine();
    await using peer = new RawPeer();
    peer.device.isPrompt = true;
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await peer.bringUp(machine, ring);
    await peer.ask('RESET_DEVICE', undefined);
    expect(peer.backend.status()).toMatchObject({
      status: '0',
      regionCount: 1,
      vrings: [{ isStarted: false, isEnabled: false, isRunning: false }, {}],
    });
  });

  it('features may be set again and again, and not changed while rings run', async () => {
    using machine = new RawMachine();
    await using peer = new RawPeer();
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await peer.bringUp(machine, ring);
    await peer.ask('SET_FEATURES', BASE_FEATURES);
    const other = BASE_FEATURES | featureBit(VIRTIO_RING_F_EVENT_IDX);
    expect(await peer.try('SET_FEATURES', other)).toMatchObject({ fault: { code: 'REFUSED' } });
    expect(await peer.try('SET_FEATURES', BASE_FEATURES | (1n << 63n))).toMatchObject({ ok: false });
    expect(peer.device.resetCount).toBe(0);
  });

  it('§2.2.2 features that the device refuses: FEATURES_OK stays clear in GET_STATUS', async () => {
    await using peer = new RawPeer();
    await peer.negotiate(featureBit(VHOST_USER_F_PROTOCOL_FEATURES));
    await peer.ask('SET_STATUS', 0xbn);
    expect(await peer.ask('GET_STATUS', undefined)).toBe(3n);
  });
});

describeWithFfi('device-hosting role: configuration, MTU, broken rings', () => {
  it('GET_CONFIG, SET_CONFIG, and zero bytes beyond what the device has', async () => {
    await using peer = new RawPeer();
    await peer.negotiate();
    const read = { offset: 14, bytes: new Uint8Array(4), isMigration: false };
    expect((await peer.ask('GET_CONFIG', read))?.bytes).toEqual(Uint8Array.of(15, 16, 0, 0));
    await peer.ask('SET_CONFIG', { offset: 2, bytes: Uint8Array.of(7, 8), isMigration: false });
    expect(peer.device.config.subarray(0, 5)).toEqual(Uint8Array.of(1, 2, 7, 8, 5));
    expect(
      await peer.try('SET_CONFIG', { offset: 15, bytes: new Uint8Array(2), isMigration: false }),
    ).toMatchObject({
      fault: { code: 'REFUSED' },
    });
  });

  it('NET_SET_MTU asks whoever owns the device, and is offered only then', async () => {
    const seen: number[] = [];
    const setMtu = (mtu: number): boolean => seen.push(mtu) > 0 && mtu <= 9000;
    await using peer = new RawPeer({ setMtu });
    await peer.negotiate();
    await peer.ask('NET_SET_MTU', 9000n);
    expect(await peer.try('NET_SET_MTU', 9001n)).toMatchObject({ ok: false });
    expect(await peer.try('NET_SET_MTU', 0x1_0000n)).toMatchObject({ ok: false });
    expect(seen).toEqual([9000, 9001]);
    await using plain = new RawPeer();
    expect((await plain.ask('GET_PROTOCOL_FEATURES', undefined)) & bit('MTU')).toBe(0n);
  });

  it('a ring that breaks the rules: the error event, NEEDS_RESET, and a device that can start again', async () => {
    using machine = new RawMachine();
    await using peer = new RawPeer();
    peer.device.isPrompt = true;
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await peer.bringUp(machine, ring);
    ring.send(1);
    await until('it is done', () => peer.device.finished.length === 1);
    const { driverArea } = ring.queue.addresses;
    machine.region.u16[Number(driverArea) / 2 + 1] = 999;
    ring.kick.write();
    await until('the device is broken', () => peer.host.violation !== undefined);
    expect(ring.error.read()).toBe(true);
    expect((await peer.ask('GET_STATUS', undefined)) & 0x40n).toBe(0x40n);
    await peer.ask('SET_STATUS', 0n);
    await peer.ask('GET_VRING_BASE', { index: 0, num: 0 });
    using fresh = new RawRing(machine, 0, BASE_FEATURES);
    await peer.ask('SET_FEATURES', BASE_FEATURES);
    await peer.startRing(fresh);
    await peer.driverOk();
    fresh.send(2);
    await until('it goes on', () => peer.device.finished.length === 2);
    expect(fresh.receive()).toHaveLength(1);
  });

  it('GET_QUEUE_NUM, GET_MAX_MEM_SLOTS', async () => {
    await using peer = new RawPeer({ device: new HeldDevice(5) });
    await peer.negotiate();
    expect(await peer.ask('GET_QUEUE_NUM', undefined)).toBe(5n);
    expect(await peer.ask('GET_MAX_MEM_SLOTS', undefined)).toBe(509n);
  });
});
