import { VHOST_F_LOG_ALL, VHOST_LOG_PAGE } from '@virtlab/abi/vhost-user';
import { VIRTIO_F_RING_PACKED, featureBit } from '@virtlab/abi/virtio';
import { EventFd, closeFd, mapShared, memfdCreate } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { expect, it } from 'vitest';
import { HeldDevice } from './testing/held-device.ts';
import {
  BASE_FEATURES,
  MEMORY_SIZE,
  RawMachine,
  RawPeer,
  RawRing,
  initialBase,
  until,
} from './testing/raw-peer.ts';

const LOG_SIZE = 4096;
const LOGGED = featureBit(VHOST_F_LOG_ALL);
/** Where the used ring is logged: beyond the memory, as the document allows. */
const USED_LOG = BigInt(MEMORY_SIZE) * 2n;

/** Pages that are marked, taken out of the log as a peer takes them. */
function takePages(bytes: Uint8Array): number[] {
  const pages: number[] = [];
  for (const [at, byte] of bytes.entries()) {
    for (let bit = 0; bit < 8; bit += 1) if ((byte & (1 << bit)) !== 0) pages.push(at * 8 + bit);
    bytes[at] = 0;
  }
  return pages;
}

describeWithFfi('"Migration": LOG_SHMFD', () => {
  it.each([
    ['split', BASE_FEATURES],
    ['packed', BASE_FEATURES | featureBit(VIRTIO_F_RING_PACKED)],
  ])(
    '%s: every page that the device writes is marked, and the used ring at its log address',
    async (_, features) => {
      using machine = new RawMachine();
      await using peer = new RawPeer();
      peer.device.isPrompt = true;
      using ring = new RawRing(machine, 0, features);
      await peer.bringUp(machine, ring, features);
      const fd = memfdCreate('log', LOG_SIZE);
      using mapping = mapShared(fd, LOG_SIZE);
      const log = new Uint8Array(mapping.buffer);
      using event = EventFd.create();
      expect(await peer.ask('SET_LOG_BASE', { size: BigInt(LOG_SIZE), offset: 0n }, fd)).toBe(0n);
      await peer.ask('SET_LOG_FD', undefined, event.fd);
      ring.send(1);
      await until('the first', () => peer.device.finished.length === 1);
      expect(takePages(log)).toEqual([]);

      // As a migration begins: under a live device.
      await peer.ask('SET_FEATURES', features | LOGGED);
      await peer.ask('SET_VRING_ADDR', ring.userAddresses(true, USED_LOG));
      event.read();
      ring.send(2);
      await until('the second', () => peer.device.finished.length === 2);
      const pages = takePages(log);
      expect(pages).toContain(Number(USED_LOG) / VHOST_LOG_PAGE);
      const written = pages.filter((page) => page < MEMORY_SIZE / VHOST_LOG_PAGE);
      const { descriptorArea } = ring.queue.addresses;
      const ringPage = Math.floor(Number(descriptorArea) / VHOST_LOG_PAGE);
      // The buffer's, and of a packed ring its own; here they may be one.
      expect(written.length).toBeLessThanOrEqual(2);
      expect(written.length > 0 && (features === BASE_FEATURES || written.includes(ringPage))).toBe(true);
      expect(event.read()).toBe(true);

      // And as it ends without one.
      await peer.ask('SET_VRING_ADDR', ring.userAddresses());
      await peer.ask('SET_FEATURES', features);
      ring.send(3);
      await until('the third', () => peer.device.finished.length === 3);
      expect(takePages(log)).toEqual([]);
      expect(ring.receive().map(({ tag }) => tag)).toEqual([1, 2, 3]);
      closeFd(fd);
    },
  );

  it('packed: the descriptor ring is marked where it lies, and at the log address no more than the event word', async () => {
    const features = BASE_FEATURES | featureBit(VIRTIO_F_RING_PACKED);
    const size = 256;
    using machine = new RawMachine();
    // Not in the first page, which a size or an index could be taken for.
    machine.dma.allocate(VHOST_LOG_PAGE);
    await using peer = new RawPeer({ device: new HeldDevice(2, size) });
    peer.device.isPrompt = true;
    using ring = new RawRing(machine, 0, features, size);
    await peer.bringUp(machine, ring, features);
    const fd = memfdCreate('log', LOG_SIZE);
    using mapping = mapShared(fd, LOG_SIZE);
    const log = new Uint8Array(mapping.buffer);
    await peer.ask('SET_LOG_BASE', { size: BigInt(LOG_SIZE), offset: 0n }, fd);
    await peer.ask('SET_FEATURES', features | LOGGED);
    const { descriptorArea, deviceArea } = ring.queue.addresses;
    const first = Number(descriptorArea) / VHOST_LOG_PAGE;
    // As QEMU asks for it, then in the last word of a page that is not memory.
    for (const logAddress of [deviceArea, USED_LOG + BigInt(VHOST_LOG_PAGE - 4)]) {
      await peer.ask('SET_VRING_ADDR', ring.userAddresses(true, logAddress));
      takePages(log);
      const count = peer.device.finished.length;
      ring.send(count + 1);
      await until('it is done', () => peer.device.finished.length === count + 1);
      ring.receive();
      const pages = takePages(log);
      expect(pages).toContain(first);
      expect(pages).toContain(Math.floor(Number(logAddress) / VHOST_LOG_PAGE));
      expect(pages.filter((page) => page >= MEMORY_SIZE / VHOST_LOG_PAGE)).toHaveLength(
        logAddress === deviceArea ? 0 : 1,
      );
    }
    closeFd(fd);
  });

  it('once a ring is stopped nothing is marked any more', async () => {
    using machine = new RawMachine();
    await using peer = new RawPeer({ drainTimeoutMs: 10_000 });
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await peer.bringUp(machine, ring);
    const fd = memfdCreate('log', LOG_SIZE);
    using mapping = mapShared(fd, LOG_SIZE);
    await peer.ask('SET_LOG_BASE', { size: BigInt(LOG_SIZE), offset: 0n }, fd);
    await peer.ask('SET_FEATURES', BASE_FEATURES | LOGGED);
    ring.send(1);
    await until('it is taken', () => peer.device.heldCount === 1);
    const base = peer.ask('GET_VRING_BASE', { index: 0, num: 0 });
    await new Promise((resolve) => setTimeout(resolve, 0));
    peer.device.finish(1);
    expect((await base).num).toBe(1);
    const log = new Uint8Array(mapping.buffer);
    expect(takePages(log)).toHaveLength(1);
    ring.send(2);
    peer.device.finish();
    expect(takePages(log)).toEqual([]);
    closeFd(fd);
  });

  it.each([
    ['that is empty', 0n, 0n],
    ['beyond its file', 8192n, 0n],
    ['at an offset beyond its file', 4096n, 4096n],
    ['larger than a view', 1n << 40n, 0n],
    ['of half words', 4092n, 0n],
  ])('a log %s ends the connection, and the device serves the next', async (_, size, offset) => {
    const peer = new RawPeer();
    await peer.negotiate();
    const fd = memfdCreate('log', LOG_SIZE);
    expect((await peer.try('SET_LOG_BASE', { size, offset }, fd)).ok).toBe(false);
    expect((await peer.end()).fault?.message).toMatch(/SET_LOG_BASE/);
    closeFd(fd);
    await peer[Symbol.asyncDispose]();
  });

  it('pages beyond the end of the log are lost, and nothing else', async () => {
    using machine = new RawMachine();
    await using peer = new RawPeer();
    peer.device.isPrompt = true;
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await peer.bringUp(machine, ring);
    const fd = memfdCreate('log', 8);
    await peer.ask('SET_LOG_BASE', { size: 8n, offset: 0n }, fd);
    await peer.ask('SET_FEATURES', BASE_FEATURES | LOGGED);
    await peer.ask('SET_VRING_ADDR', ring.userAddresses(true, 1n << 60n));
    ring.send(1);
    await until('it is done', () => peer.device.finished.length === 1);
    expect(ring.receive()).toHaveLength(1);
    expect(initialBase(BASE_FEATURES)).toBe(0);
    closeFd(fd);
  });
});
