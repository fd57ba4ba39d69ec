import { VHOST_F_LOG_ALL, VHOST_LOG_PAGE } from '@virtlab/abi/vhost-user';
import { featureBit } from '@virtlab/abi/virtio';
import { closeFd, mapShared, memfdCreate } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { describe, expect, it } from 'vitest';
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

/** A device that answers at once, and discards what comes on queue 0 while it is disabled. */
function createPeer(): RawPeer {
  const device = new HeldDevice();
  device.discardedWhenDisabled = [0];
  device.isPrompt = true;
  return new RawPeer({ device });
}

/** Nothing tells that nothing happens: everything that a doorbell could have set off has had its turn. */
async function aWhile(): Promise<void> {
  for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setTimeout(resolve, 0));
}

const unread = (...tags: readonly number[]) => tags.map((tag) => ({ tag, answer: 0 }));
const done = (...tags: readonly number[]) => tags.map((tag) => ({ tag, answer: answerTo(tag) }));

/** What comes back until the ring is enabled, and by when the device has done its first request. */
async function receivedAroundEnable(peer: RawPeer, ring: RawRing) {
  await aWhile();
  const before = ring.receive();
  await peer.enable(ring.index);
  await until('it is done', () => peer.device.finished.length === 1);
  return { before, after: ring.receive() };
}

const WAITED = { before: [], after: done(1) };

describeWithFfi('"Ring states": a ring that is started and disabled', () => {
  describe.each(RING_FORMATS)('%s', (_, features) => {
    it('is processed without side effects: what comes is given back and called, the device knows nothing', async () => {
      using machine = new RawMachine();
      await using peer = createPeer();
      using ring = new RawRing(machine, 0, features);
      await peer.bringUp(machine, ring, features);
      ring.send(1, 2);
      await until('both are done', () => peer.device.finished.length === 2);
      expect(ring.receive()).toEqual(done(1, 2));
      await peer.enable(0, false);
      const returned = (): number => peer.backend.status().vrings[0]!.statistics.requests - 2;
      // More than the ring holds, in all.
      for (let first = 10; first < 50; first += 8) {
        const tags = Array.from({ length: 8 }, (__, at) => first + at);
        ring.call.read();
        ring.queue.enableCalls();
        ring.send(...tags);
        await until('they come back', () => returned() === first - 10 + 8);
        expect(ring.call.read()).toBe(true);
        expect(ring.receive()).toEqual(unread(...tags));
      }
      await peer.enable(0);
      ring.send(3);
      await until('the next is done', () => peer.device.finished.length === 3);
      expect(ring.receive()).toEqual(done(3));
      expect(peer.device.taken).toEqual([1, 2, 3]);
    });

    it('what was there already comes back as well, and GET_VRING_BASE says where the ring stands', async () => {
      using machine = new RawMachine();
      await using peer = createPeer();
      using ring = new RawRing(machine, 0, features);
      await peer.bringUp(machine, ring, features);
      await peer.enable(0, false);
      ring.queue.disableCalls();
      ring.send(1, 2, 3);
      await peer.ask('SET_VRING_CALL', { index: 0, hasFd: true }, ring.call.fd);
      await until('they come back', () => peer.backend.status().vrings[0]!.statistics.requests === 3);
      const { num } = await peer.ask('GET_VRING_BASE', { index: 0, num: 0 });
      expect(num).toBe(initialBase(features) === 0 ? 3 : 0x8006_8006);
      expect(ring.receive()).toEqual(unread(1, 2, 3));
      await peer.startRing(ring, num);
      ring.send(4);
      await aWhile();
      expect(ring.receive(), 'it was stopped since, and waits to be enabled').toEqual([]);
      await peer.enable(0);
      await until('it is done', () => peer.device.finished.length === 1);
      expect(ring.receive()).toEqual(done(4));
    });
  });

  it('waits if it has not been enabled yet: between kick and ENABLE nothing is lost', async () => {
    using machine = new RawMachine();
    await using peer = createPeer();
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await peer.negotiate();
    await peer.setMemory(machine);
    ring.send(1);
    await peer.enable(0, false);
    await peer.startRing(ring);
    await peer.driverOk();
    expect(await receivedAroundEnable(peer, ring)).toEqual(WAITED);
  });

  it('waits after SET_STATUS 0 as well, which stops it', async () => {
    using machine = new RawMachine();
    await using peer = createPeer();
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await peer.bringUp(machine, ring);
    await peer.enable(0, false);
    await peer.ask('SET_STATUS', 0n);
    await peer.ask('SET_FEATURES', BASE_FEATURES);
    ring.send(1);
    await peer.startRing(ring);
    await peer.driverOk();
    expect(await receivedAroundEnable(peer, ring)).toEqual(WAITED);
  });

  it('waits if its device does not discard', async () => {
    using machine = new RawMachine();
    await using peer = createPeer();
    using ring = new RawRing(machine, 1, BASE_FEATURES);
    await peer.bringUp(machine, ring);
    await peer.enable(1, false);
    ring.send(1);
    expect(peer.backend.status().vrings[1]).toMatchObject({
      isStarted: true,
      isEnabled: false,
      isRunning: false,
    });
    expect(await receivedAroundEnable(peer, ring)).toEqual(WAITED);
  });

  it('goes on being discarded after a change of memory, and under a log its used ring is marked', async () => {
    using machine = new RawMachine();
    await using peer = createPeer();
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await peer.bringUp(machine, ring);
    const size = 4096;
    const fd = memfdCreate('log', size);
    using mapping = mapShared(fd, size);
    const log = new Uint8Array(mapping.buffer);
    await peer.ask('SET_LOG_BASE', { size: BigInt(size), offset: 0n }, fd);
    await peer.ask('SET_FEATURES', BASE_FEATURES | featureBit(VHOST_F_LOG_ALL));
    const { deviceArea } = ring.queue.addresses;
    await peer.ask('SET_VRING_ADDR', ring.userAddresses(true, deviceArea));
    await peer.enable(0, false);
    await peer.setMemory(machine);
    log.fill(0);
    ring.send(1);
    await until('it comes back', () => peer.backend.status().vrings[0]!.statistics.requests === 1);
    expect(ring.receive()).toEqual(unread(1));
    const page = Math.floor(Number(deviceArea) / VHOST_LOG_PAGE);
    expect(log[page >>> 3]! & (1 << (page & 7))).not.toBe(0);
    expect(
      log.reduce((count, byte) => count + (byte === 0 ? 0 : 1), 0),
      'and nothing else',
    ).toBe(1);
    expect(peer.device.taken).toEqual([]);
    closeFd(fd);
  });

  it('that is broken breaks the device, as any: its error is rung', async () => {
    using machine = new RawMachine();
    await using peer = createPeer();
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await peer.bringUp(machine, ring);
    await peer.enable(0, false);
    machine.region.u16[Number(ring.queue.addresses.driverArea) / 2 + 1] = 999;
    ring.kick.write();
    await until('it is found out', () => peer.backend.status().status.includes('NEEDS_RESET'));
    expect(ring.error.read()).toBe(true);
  });
});
