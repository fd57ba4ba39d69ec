import { VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED, featureBit } from '@virtlab/abi/virtio';
import {
  VHOST_USER_INFLIGHT_DESC_PACKED,
  VHOST_USER_INFLIGHT_DESC_SPLIT,
  VHOST_USER_INFLIGHT_PACKED,
  VHOST_USER_INFLIGHT_SPLIT,
  VHOST_USER_INFLIGHT_VERSION,
} from '@virtlab/abi/vhost-user';
import { VIRTIO_RING_F_INDIRECT_DESC, vringPackedDescSize } from '@virtlab/abi/virtio-ring';
import { memoryRegion } from '@virtlab/guest-memory';
import { closeFd, mapShared, memfdCreate, openFdCount } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { inflightRegionSize } from './inflight-area.ts';
import { PackedInflightRecord } from './inflight-packed.ts';
import { SplitInflightRecord } from './inflight-split.ts';
import { answerTo } from './testing/held-device.ts';
import {
  BASE_FEATURES,
  type KeptInflight,
  RawMachine,
  RawPeer,
  RawRing,
  initialBase,
  until,
} from './testing/raw-peer.ts';

const FORMATS = [
  ['split', BASE_FEATURES],
  ['split, INDIRECT', BASE_FEATURES | featureBit(VIRTIO_RING_F_INDIRECT_DESC)],
  ['packed', BASE_FEATURES | featureBit(VIRTIO_F_RING_PACKED)],
  [
    'packed, INDIRECT',
    BASE_FEATURES | featureBit(VIRTIO_F_RING_PACKED) | featureBit(VIRTIO_RING_F_INDIRECT_DESC),
  ],
] as const;
const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);

/** As a machine that knows of in-flight areas starts its device, the first time or after a crash. */
async function start(
  peer: RawPeer,
  machine: RawMachine,
  ring: RawRing,
  {
    features,
    kept,
    base,
  }: { readonly features: bigint; readonly kept?: KeptInflight; readonly base?: number },
): Promise<KeptInflight> {
  await peer.negotiate(features);
  const area = kept ?? (await peer.getInflight());
  await peer.setInflight(area);
  await peer.setMemory(machine);
  await peer.startRing(ring, base ?? initialBase(features));
  await peer.enable(ring.index);
  await peer.driverOk();
  return area;
}

/** Ends the device as a crash does for the other side: nothing that it has is finished, nothing is said. */
async function crash(peer: RawPeer): Promise<void> {
  await peer[Symbol.asyncDispose]();
}

describeWithFfi('INFLIGHT_SHMFD', () => {
  it.each(FORMATS)(
    '%s: after a crash what was in flight is done again, in its order, and nothing else',
    async (_, features) => {
      const before = openFdCount();
      {
        using machine = new RawMachine();
        using ring = new RawRing(machine, 0, features);
        const first = new RawPeer();
        const kept = await start(first, machine, ring, { features });
        ring.send(1, 2, 3, 4, 5);
        await until('all are taken', () => first.device.heldCount === 5);
        first.device.finish(4);
        first.device.finish(2);
        expect(ring.receive().map(({ tag }) => tag)).toEqual([4, 2]);
        ring.send(6, 7);
        await until('two more', () => first.device.heldCount === 5);
        await crash(first);
        ring.send(8);

        await using second = new RawPeer();
        await start(second, machine, ring, { features, kept, base: initialBase(features) });
        await until('all again', () => second.device.taken.length === 6);
        expect(second.device.taken).toEqual([1, 3, 5, 6, 7, 8]);
        second.device.finish(8, 3, 1, 5, 7, 6);
        expect(ring.receive()).toEqual([8, 3, 1, 5, 7, 6].map((tag) => ({ tag, answer: answerTo(tag) })));
        ring.send(9);
        second.device.isPrompt = true;
        await until('and on it goes', () => second.device.finished.length === 7);
        expect(ring.receive()).toHaveLength(1);
        closeFd(kept.fd);
      }
      expect(openFdCount()).toBe(before);
    },
  );

  it.each(FORMATS)('%s: a crash after a crash', async (_, features) => {
    using machine = new RawMachine();
    using ring = new RawRing(machine, 0, features);
    const first = new RawPeer();
    const kept = await start(first, machine, ring, { features });
    ring.send(1, 2, 3);
    await until('all are taken', () => first.device.heldCount === 3);
    await crash(first);
    const second = new RawPeer();
    await start(second, machine, ring, { features, kept });
    await until('all again', () => second.device.heldCount === 3);
    second.device.finish(2);
    await crash(second);
    await using third = new RawPeer();
    third.device.isPrompt = true;
    await start(third, machine, ring, { features, kept });
    await until('the rest', () => third.device.finished.length === 2);
    expect(third.device.taken).toEqual([1, 3]);
    expect(ring.receive().map(({ tag }) => tag)).toEqual([2, 1, 3]);
    closeFd(kept.fd);
  });

  it.each(FORMATS)(
    '%s: after a stop in order, the other side says where the ring goes on',
    async (_, features) => {
      using machine = new RawMachine();
      await using peer = new RawPeer();
      peer.device.isPrompt = true;
      using old = new RawRing(machine, 0, features);
      const kept = await start(peer, machine, old, { features });
      old.send(1, 2, 3);
      await until('all', () => peer.device.finished.length === 3);
      await peer.ask('SET_STATUS', 0n);
      await peer.ask('GET_VRING_BASE', { index: 0, num: 0 });
      // Another driver, another ring, the same area.
      using ring = new RawRing(machine, 0, features);
      await peer.ask('SET_FEATURES', features);
      await peer.setInflight(kept);
      await peer.startRing(ring, initialBase(features));
      await peer.enable(0);
      await peer.driverOk();
      ring.send(4);
      await until('the fourth', () => peer.device.finished.length === 4);
      expect(ring.receive()).toEqual([{ tag: 4, answer: answerTo(4) }]);
      closeFd(kept.fd);
    },
  );

  it('IN_ORDER: what was not finished is done again from the used index on', async () => {
    const features = BASE_FEATURES | featureBit(VIRTIO_F_IN_ORDER);
    using machine = new RawMachine();
    using ring = new RawRing(machine, 0, features);
    const first = new RawPeer();
    const kept = await start(first, machine, ring, { features });
    ring.send(1, 2, 3, 4);
    await until('all are taken', () => first.device.heldCount === 4);
    first.device.finish(1, 3);
    expect(ring.receive().map(({ tag }) => tag)).toEqual([1]);
    await crash(first);
    await using second = new RawPeer();
    second.device.isPrompt = true;
    await start(second, machine, ring, { features, kept });
    await until('the rest', () => second.device.finished.length === 3);
    expect(second.device.taken).toEqual([2, 3, 4]);
    expect(ring.receive().map(({ tag }) => tag)).toEqual([2, 3, 4]);
    closeFd(kept.fd);
  });

  it('an area that is too small for a ring keeps nothing, and the ring runs', async () => {
    using machine = new RawMachine();
    await using peer = new RawPeer();
    peer.device.isPrompt = true;
    using ring = new RawRing(machine, 0, BASE_FEATURES);
    await peer.negotiate();
    const kept = await peer.getInflight();
    await peer.ask('SET_INFLIGHT_FD', { ...kept.area, queueSize: 8 }, kept.fd);
    await peer.setMemory(machine);
    await peer.startRing(ring);
    await peer.enable(0);
    await peer.driverOk();
    ring.send(1);
    await until('it is done', () => peer.device.finished.length === 1);
    closeFd(kept.fd);
    expect(ring.receive()).toHaveLength(1);
  });
});

describeWithFfi('INFLIGHT_SHMFD: an area that says more than a ring holds', () => {
  const ENTRIES = 32_768;
  const PACKED = BASE_FEATURES | featureBit(VIRTIO_F_RING_PACKED);

  /** All of it in flight, each request as long as a ring can be. */
  function fill(view: DataView, isPacked: boolean): void {
    const region = isPacked ? VHOST_USER_INFLIGHT_PACKED : VHOST_USER_INFLIGHT_SPLIT;
    view.setUint16(region.offset.version, VHOST_USER_INFLIGHT_VERSION, true);
    view.setUint16(region.offset.desc_num, ENTRIES, true);
    if (isPacked) {
      view.setUint16(VHOST_USER_INFLIGHT_PACKED.offset.free_head, 0xffff, true);
      view.setUint16(VHOST_USER_INFLIGHT_PACKED.offset.old_free_head, 0xffff, true);
    }
    const desc = isPacked ? VHOST_USER_INFLIGHT_DESC_PACKED : VHOST_USER_INFLIGHT_DESC_SPLIT;
    for (let entry = 0; entry < ENTRIES; entry += 1) {
      const at = region.size + entry * desc.size;
      view.setUint8(at + desc.offset.inflight, 1);
      view.setUint16(at + desc.offset.next, (entry + 1) % ENTRIES, true);
      if (isPacked) view.setUint16(at + VHOST_USER_INFLIGHT_DESC_PACKED.offset.num, ENTRIES, true);
    }
  }

  it('packed: it is of another ring, and no memory is spent on it', async () => {
    using machine = new RawMachine();
    using ring = new RawRing(machine, 0, PACKED);
    const size = inflightRegionSize(ENTRIES, true);
    const fd = memfdCreate('foreign', size);
    using mapping = mapShared(fd, size);
    fill(new DataView(mapping.buffer), true);
    await using peer = new RawPeer();
    peer.device.isPrompt = true;
    const area = { size: BigInt(size), offset: 0n, queueCount: 1, queueSize: ENTRIES };
    await start(peer, machine, ring, { features: PACKED, kept: { area, fd } });
    ring.send(1, 2);
    await until('both', () => peer.device.finished.length === 2);
    expect(ring.receive()).toEqual([1, 2].map((tag) => ({ tag, answer: answerTo(tag) })));
    closeFd(fd);
  });

  it.each([
    ['split', BASE_FEATURES],
    ['packed', PACKED],
  ])('%s: what is looked at is no more than the ring is large', (_, features) => {
    const isPacked = features === PACKED;
    const memory = memoryRegion(new ArrayBuffer(inflightRegionSize(ENTRIES, isPacked)));
    fill(new DataView(memory.u8.buffer), isPacked);
    const place = { memory, offset: 0, queueSize: ENTRIES };
    const size = 256;
    const ring = { memory: memoryRegion(new ArrayBuffer(vringPackedDescSize(size))), offset: 0, size };
    const record = isPacked
      ? new PackedInflightRecord(place, ring, false)
      : new SplitInflightRecord(place, size, false);
    const slots = record
      .recover(0)
      ?.takenChains.reduce((sum, { descriptors }) => sum + (descriptors?.length ?? 1), 0);
    expect(slots).toBe(isPacked ? undefined : size);
  });
});

describe.skipIf(process.platform !== 'linux')(
  'INFLIGHT_SHMFD: an area that the other side wrote all over',
  () => {
    it.each([BASE_FEATURES, BASE_FEATURES | featureBit(VIRTIO_F_RING_PACKED)])(
      'features %s: the device starts or is refused, and serves the next',
      async (features) => {
        const property = fc.asyncProperty(
          fc.uint8Array({ minLength: 16, maxLength: 700, size: 'max' }),
          async (bytes) => {
            using machine = new RawMachine();
            using ring = new RawRing(machine, 0, features);
            using area = new RawMachine();
            area.region.u8.set(bytes);
            // In use, for the size that it says: the rest is anything.
            area.region.u16[4] = 1;
            area.region.u16[5] = 16;
            const peer = new RawPeer();
            peer.device.isPrompt = true;
            const kept = { area: { size: 4096n, offset: 0n, queueCount: 1, queueSize: 16 }, fd: area.fd };
            const outcome = await start(peer, machine, ring, { features, kept }).then(
              () => 'started',
              (error: unknown) => String(error),
            );
            expect(outcome).toMatch(/started|SET_VRING/);
            ring.send(1, 2);
            await peer.try('GET_STATUS', undefined);
            await peer[Symbol.asyncDispose]();
          },
        );
        await fc.assert(property, { seed: SEED, numRuns: 40 * Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1) });
      },
    );
  },
);
