import {
  VRING_AVAIL_F_NO_INTERRUPT,
  VRING_DESC_F_INDIRECT,
  VRING_DESC_F_NEXT,
  VRING_DESC_F_WRITE,
  VRING_USED_F_NO_NOTIFY,
} from '@virtlab/abi/virtio-ring';
import { DmaError, IdentityDmaMapper, memoryRegion, SegmentList } from '@virtlab/guest-memory';
import { HostileDmaMapper } from '@virtlab/guest-memory/testing';
import { describe, expect, it } from 'vitest';
import { createBufferList } from './buffer-list.ts';
import { ADD_BROKEN, ADD_FULL, ADD_NO_ADDRESS, type BufferList } from './contract.ts';
import { createDriverQueue } from './driver-queue.ts';
import { createDriverRig, type DriverRig } from './testing.ts';

/** `readable` then `writable` buffers of 16 bytes each. */
function buffers({ payload }: DriverRig, readable: number, writable: number, at: number = 0): BufferList {
  const list = createBufferList();
  for (let i = 0; i < readable; i++) list.addReadable(payload + at + i * 16, 16);
  for (let i = 0; i < writable; i++) list.addWritable(payload + at + (readable + i) * 16, 16);
  return list;
}

const one = (rig: DriverRig, at: number = 0): BufferList => buffers(rig, 0, 1, at);

describe('driver half: requests', () => {
  it('§2.7.13 stages descriptors and available entries, and shows a batch with one index store', () => {
    const rig = createDriverRig();
    expect(rig.queue.add(buffers(rig, 1, 2), 70)).toBe(0);
    expect(rig.queue.add(one(rig, 64), 71)).toBe(0);
    expect(rig.device.takeAvailable()).toEqual([]);
    rig.queue.publish();
    const heads = rig.device.takeAvailable();
    expect(heads).toHaveLength(2);
    const chain = rig.device.chain(heads[0]!);
    expect(chain.map(({ size, flags }) => [size, flags])).toEqual([
      [16, VRING_DESC_F_NEXT],
      [16, VRING_DESC_F_NEXT | VRING_DESC_F_WRITE],
      [16, VRING_DESC_F_WRITE],
    ]);
    expect(chain.at(-1)?.next).toBe(0);
    expect([rig.queue.freeCount, rig.queue.inFlightCount]).toEqual([4, 2]);
    rig.device.use(heads[1]!, 16);
    rig.device.use(heads[0]!, 5);
    expect([rig.queue.popUsed(), rig.queue.usedSize]).toEqual([71, 16]);
    expect([rig.queue.popUsed(), rig.queue.usedSize]).toEqual([70, 5]);
    expect(rig.queue.popUsed()).toBe(-1);
    expect([rig.queue.freeCount, rig.queue.inFlightCount, rig.queue.clampedCount]).toEqual([8, 0, 0]);
    expect(rig.close()).toBe(true);
  });

  it('shares buffers for their direction from add until popUsed, and data passes both ways', () => {
    const rig = createDriverRig();
    const { dma, payload, queue } = rig;
    dma.memory.u8.set([1, 2, 3], payload);
    const list = createBufferList();
    list.addReadable(payload, 3);
    list.addWritable(payload + 0x1ff0, 0x20);
    queue.add(list, 5);
    queue.publish();
    const [head] = rig.device.takeAvailable();
    const [source, target] = rig.device.chain(head!);
    const segments = new SegmentList();
    const map = (buffer: typeof source, writable: boolean): number =>
      dma.deviceMemory.map(
        Number(buffer!.address & 0xffff_ffffn),
        Number(buffer!.address >> 32n),
        buffer!.size,
        writable,
        segments,
      );
    expect(map(source, true)).not.toBe(0);
    expect(map(source, false)).toBe(0);
    expect(map(target, true)).toBe(0);
    const regions = dma.deviceMemory.regions;
    const first = segments.offset[0]!;
    expect([...regions[segments.region[0]!]!.u8.subarray(first, first + 3)]).toEqual([1, 2, 3]);
    for (let i = 1; i < segments.count; i++) {
      regions[segments.region[i]!]!.u8.fill(
        0x60 + i,
        segments.offset[i],
        segments.offset[i]! + segments.size[i]!,
      );
    }
    dma.deviceMemory.unmap(segments, 0, segments.count);
    rig.device.use(head!, 0x20);
    expect(queue.popUsed()).toBe(5);
    expect(dma.memory.u8[payload + 0x1ff0]).toBe(0x61);
    expect(dma.memory.u8[payload + 0x200f]).toBe(0x62);
    expect(rig.close()).toBe(true);
  });

  it('coherent buffers keep their address and stay lent', () => {
    const rig = createDriverRig();
    const lent = rig.dma.allocateCoherent(64);
    const list = createBufferList(1);
    list.addCoherentReadable(lent.addressLow, lent.addressHigh, 16);
    list.addCoherentWritable(lent.addressLow + 16, lent.addressHigh, 48);
    for (let round = 0; round < 20; round++) {
      expect(rig.queue.add(list, round)).toBe(0);
      rig.queue.publish();
      const [head] = rig.device.takeAvailable();
      expect(rig.device.chain(head!).map(({ address }) => address)).toEqual(
        [0, 16].map((at) => (BigInt(lent.addressHigh) << 32n) + BigInt(lent.addressLow + at)),
      );
      rig.device.use(head!, 48);
      expect(rig.queue.popUsed()).toBe(round);
    }
    expect(rig.dma.freeCoherent(lent)).toBe(true);
    expect(rig.close()).toBe(true);
  });

  it('ADD_FULL changes nothing; the request fits after completions', () => {
    const rig = createDriverRig({ size: 4 });
    expect(rig.queue.add(buffers(rig, 1, 2), 0)).toBe(0);
    const before = rig.queue.snapshot();
    expect(rig.queue.add(buffers(rig, 1, 1, 64), 1)).toBe(ADD_FULL);
    expect(rig.queue.snapshot()).toEqual(before);
    rig.queue.publish();
    rig.device.use(rig.device.takeAvailable()[0]!, 0);
    expect(rig.queue.popUsed()).toBe(0);
    expect(rig.queue.add(buffers(rig, 1, 3, 64), 1)).toBe(0);
    expect(rig.queue.add(one(rig, 256), 2)).toBe(ADD_FULL);
    expect(rig.close()).toBe(true);
  });

  it('goes round 2^16 entries with requests of changing shape, completed out of order', () => {
    const rig = createDriverRig({ size: 16, features: { eventIdx: true } });
    const lent = rig.dma.allocateCoherent(4096);
    const lists = [1, 2, 3, 4].map((count) => {
      const list = createBufferList();
      for (let i = 0; i < count; i++) list.addCoherentWritable(lent.addressLow + i, lent.addressHigh, 1);
      return list;
    });
    let token = 0;
    const inFlight = new Set<number>();
    for (let round = 0; round < 17_000; round++) {
      for (const list of lists) {
        if (rig.queue.add(list, token) === 0) inFlight.add(token++);
      }
      rig.queue.publish();
      for (const head of rig.device.takeAvailable().toReversed()) rig.device.use(head, 0);
      for (let got = rig.queue.popUsed(); got >= 0; got = rig.queue.popUsed()) {
        if (!inFlight.delete(got)) throw new Error(`token ${got} came back twice`);
      }
      if (inFlight.size !== 0) throw new Error(`${inFlight.size} lost: ${rig.queue.violation?.message}`);
    }
    expect(token).toBeGreaterThan(65_536);
    expect(rig.queue.freeCount).toBe(16);
    rig.dma.freeCoherent(lent);
    expect(rig.close()).toBe(true);
  });
});

describe('driver half: indirect descriptors', () => {
  it('§2.7.5.3 uses one table for more than one buffer, entries in order, and a plain descriptor for one', () => {
    const rig = createDriverRig({ features: { indirect: true }, bufferCountMax: 4 });
    rig.queue.add(buffers(rig, 2, 2), 1);
    rig.queue.add(one(rig, 128), 2);
    rig.queue.publish();
    const [table, plain] = rig.device.takeAvailable();
    const { ring } = rig.device;
    const named = ring.descriptor(table!);
    expect(named).toMatchObject({ size: 64, flags: VRING_DESC_F_INDIRECT });
    const entries = [0, 1, 2, 3].map((i) => ring.readDescriptor(named.address + BigInt(i * 16)));
    expect(entries.map(({ flags, next }) => [flags, next])).toEqual([
      [VRING_DESC_F_NEXT, 1],
      [VRING_DESC_F_NEXT, 2],
      [VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 3],
      [VRING_DESC_F_WRITE, 0],
    ]);
    expect(ring.descriptor(plain!)).toMatchObject({ size: 16, flags: VRING_DESC_F_WRITE });
    expect(rig.queue.freeCount).toBe(6);
    rig.device.use(table!, 32);
    rig.device.use(plain!, 16);
    expect([rig.queue.popUsed(), rig.queue.usedSize, rig.queue.popUsed()]).toEqual([1, 32, 2]);
    expect(rig.queue.freeCount).toBe(8);
    expect(rig.close()).toBe(true);
  });

  it('falls back to a direct chain when the list is larger than a table', () => {
    const rig = createDriverRig({ features: { indirect: true }, bufferCountMax: 2 });
    expect(rig.queue.add(buffers(rig, 2, 1), 1)).toBe(0);
    expect(rig.queue.freeCount).toBe(5);
    rig.queue.publish();
    const [head] = rig.device.takeAvailable();
    expect(rig.device.ring.descriptor(head!).flags).toBe(VRING_DESC_F_NEXT);
    rig.device.use(head!, 0);
    expect(rig.queue.popUsed()).toBe(1);
    expect(rig.queue.freeCount).toBe(8);
    expect(rig.close()).toBe(true);
  });

  it('fills the ring with as many tables as descriptors, each with its own memory', () => {
    const rig = createDriverRig({ size: 4, features: { indirect: true }, bufferCountMax: 3 });
    for (let i = 0; i < 4; i++) expect(rig.queue.add(buffers(rig, 1, 2, i * 64), i)).toBe(0);
    expect(rig.queue.add(buffers(rig, 1, 2, 256), 4)).toBe(ADD_FULL);
    rig.queue.publish();
    const heads = rig.device.takeAvailable();
    const tables = heads.map((head) => rig.device.ring.descriptor(head).address);
    expect(new Set(tables).size).toBe(4);
    for (const head of heads) expect(rig.device.chain(head)).toHaveLength(3);
    expect(rig.close()).toBe(true);
  });

  it('§2.7.5.3.1 MUST NOT make a chain longer than the queue: such a list is misuse', () => {
    for (const indirect of [false, true]) {
      const rig = createDriverRig({ size: 4, features: { indirect } });
      expect(rig.queue.add(buffers(rig, 2, 2), 1)).toBe(0);
      expect(() => rig.queue.add(buffers(rig, 3, 2, 128), 2)).toThrow(RangeError);
      expect(rig.close()).toBe(true);
    }
  });
});

describe('driver half: memory', () => {
  it('ADD_NO_ADDRESS when addresses run out part-way: everything is taken back and retry works', () => {
    for (const indirect of [false, true]) {
      const rig = createDriverRig({ features: { indirect }, shareMax: 3 });
      expect(rig.queue.add(buffers(rig, 1, 1), 1)).toBe(0);
      const before = rig.queue.snapshot();
      expect(rig.queue.add(buffers(rig, 1, 1, 64), 2)).toBe(ADD_NO_ADDRESS);
      const { descriptors: _, ...after } = rig.queue.snapshot();
      expect(before).toMatchObject(after);
      expect(rig.queue.add(one(rig, 64), 3)).toBe(0);
      rig.queue.publish();
      const heads = rig.device.takeAvailable();
      for (const head of heads) rig.device.use(head, 0);
      expect([rig.queue.popUsed(), rig.queue.popUsed(), rig.queue.popUsed()]).toEqual([1, 3, -1]);
      expect(rig.close()).toBe(true);
    }
  });

  it('release ends every share, abandons each token once, and the queue is inert afterwards', () => {
    const rig = createDriverRig({ features: { indirect: true } });
    rig.queue.add(buffers(rig, 1, 1), 11);
    rig.queue.add(one(rig, 64), 12);
    rig.queue.publish();
    rig.queue.add(one(rig, 96), 13);
    const abandoned: number[] = [];
    expect(rig.queue.release((token) => abandoned.push(token))).toBe(true);
    expect(abandoned.toSorted((a, b) => a - b)).toEqual([11, 12, 13]);
    expect(rig.queue.release((token) => abandoned.push(token))).toBe(true);
    expect(abandoned).toHaveLength(3);
    expect(rig.queue.add(one(rig), 1)).toBe(ADD_BROKEN);
    expect([
      rig.queue.popUsed(),
      rig.queue.hasUsed(),
      rig.queue.needsKick(),
      rig.queue.enableCalls(),
    ]).toEqual([-1, false, false, false]);
    expect(rig.queue.snapshot()).toMatchObject({ inFlight: [], descriptors: [] });
    expect(rig.close()).toBe(true);
  });

  it('release says false when the device still holds a buffer, or the ring itself', () => {
    const buffer = createDriverRig();
    buffer.queue.add(one(buffer), 1);
    buffer.queue.publish();
    hold(buffer, buffer.device.chain(buffer.device.takeAvailable()[0]!)[0]!.address);
    expect(buffer.queue.release()).toBe(false);
    expect(buffer.queue.release()).toBe(false);
    const ring = createDriverRig();
    hold(ring, ring.queue.addresses.descriptorArea);
    expect(ring.close()).toBe(false);
  });

  it('§2.7.14 a device that completes a request but holds its memory breaks the queue; the token is abandoned', () => {
    const rig = createDriverRig();
    rig.queue.add(buffers(rig, 1, 1), 8);
    rig.queue.publish();
    const [head] = rig.device.takeAvailable();
    hold(rig, rig.device.chain(head!)[0]!.address);
    rig.device.use(head!, 0);
    expect(rig.queue.popUsed()).toBe(-1);
    expect(rig.queue.violation).toMatchObject({ section: '2.7.14' });
    expect(rig.queue.add(one(rig, 64), 9)).toBe(ADD_BROKEN);
    const abandoned: number[] = [];
    expect(rig.queue.release((token) => abandoned.push(token))).toBe(false);
    expect(abandoned).toEqual([8]);
  });

  it('passes DmaError through with nothing left allocated', () => {
    const dma = new HostileDmaMapper({ memorySize: 3 * 4096 });
    const features = { indirect: true, eventIdx: false };
    expect(() => createDriverQueue({ size: 64, dma, features })).toThrow(DmaError);
    dma.assertNothingLent();
    const queue = createDriverQueue({ size: 64, dma, features: { indirect: false, eventIdx: false } });
    expect(queue.release()).toBe(true);
    dma.assertNothingLent();
  });

  it('device addresses of tables carry into the high word', () => {
    const region = memoryRegion(new ArrayBuffer(1 << 20));
    const dma = new IdentityDmaMapper(region, { baseAddress: 0x1_ffff_e000n });
    const queue = createDriverQueue({ size: 32, dma, features: { indirect: true, eventIdx: false } });
    const list = createBufferList();
    list.addReadable(0x4000, 1);
    list.addReadable(0x4001, 1);
    for (let i = 0; i < 32; i++) expect(queue.add(list, i)).toBe(0);
    const tables = queue.snapshot().descriptors.map(({ address }) => address);
    const steps = tables.slice(1).map((address, i) => address - tables[i]!);
    expect(new Set(steps)).toEqual(new Set([32n * 16n]));
    expect(
      tables.some((address) => address < 1n << 33n) && tables.some((address) => address >= 1n << 33n),
    ).toBe(true);
    expect(queue.release()).toBe(true);
  });
});

/** The device maps one byte at an address and keeps it. */
function hold({ dma }: DriverRig, address: bigint): void {
  const low = Number(address & 0xffff_ffffn);
  expect(dma.deviceMemory.map(low, Number(address >> 32n), 1, false, new SegmentList())).toBe(0);
}

describe('driver half: kicks and calls', () => {
  it('§2.7.10.1 flags: MUST kick while used.flags is 0, SHOULD NOT while it is 1', () => {
    const rig = createDriverRig();
    expect(rig.queue.needsKick()).toBe(false);
    rig.queue.add(one(rig), 1);
    rig.queue.add(one(rig, 16), 2);
    expect(rig.queue.needsKick()).toBe(true);
    expect(rig.device.ring.availIdx).toBe(2);
    expect(rig.queue.needsKick()).toBe(false);
    rig.device.ring.usedFlags = VRING_USED_F_NO_NOTIFY;
    rig.queue.add(one(rig, 32), 3);
    expect(rig.queue.needsKick()).toBe(false);
    expect(rig.close()).toBe(true);
  });

  it('§2.7.10.1 event index: MUST kick when avail_event is crossed and only then; MUST ignore used.flags', () => {
    const rig = createDriverRig({ features: { eventIdx: true } });
    rig.device.ring.usedFlags = VRING_USED_F_NO_NOTIFY;
    rig.device.ring.availEvent = 2;
    const answers = Array.from({ length: 5 }, (_, i) => {
      rig.queue.add(one(rig, i * 16), i);
      return rig.queue.needsKick();
    });
    expect(answers).toEqual([false, false, true, false, false]);
    expect(rig.close()).toBe(true);
  });

  it('§2.7.10.1 kicks after a whole lap of 2^16 entries between two questions', () => {
    const rig = createDriverRig({ size: 2, features: { eventIdx: true } });
    const lent = rig.dma.allocateCoherent(64);
    const list = createBufferList();
    list.addCoherentReadable(lent.addressLow, lent.addressHigh, 1);
    rig.device.ring.availEvent = 9;
    for (let i = 0; i < 65_536; i++) {
      rig.queue.add(list, 1);
      rig.queue.publish();
      rig.device.use(rig.device.takeAvailable()[0]!, 0);
      if (rig.queue.popUsed() !== 1) throw new Error(`lost at ${i}`);
    }
    expect(rig.queue.needsKick()).toBe(true);
    rig.dma.freeCoherent(lent);
    expect(rig.close()).toBe(true);
  });

  it('§2.7.7.1 flags: disableCalls sets avail.flags, enableCalls clears it and looks again', () => {
    const rig = createDriverRig();
    const { ring } = rig.device;
    rig.queue.disableCalls();
    expect(ring.availFlags).toBe(VRING_AVAIL_F_NO_INTERRUPT);
    expect(rig.queue.enableCalls()).toBe(false);
    expect(ring.availFlags).toBe(0);
    rig.queue.add(one(rig), 1);
    rig.queue.publish();
    rig.queue.disableCalls();
    rig.device.use(rig.device.takeAvailable()[0]!, 0);
    expect(rig.queue.enableCalls()).toBe(true);
    expect(rig.queue.popUsed()).toBe(1);
    expect(rig.close()).toBe(true);
  });

  it('§2.7.7.1 event index: avail.flags MUST stay 0; used_event names the next entry whenever the ring ran dry', () => {
    const rig = createDriverRig({ features: { eventIdx: true } });
    const { ring } = rig.device;
    for (let i = 0; i < 3; i++) rig.queue.add(one(rig, i * 16), i);
    rig.queue.publish();
    for (const head of rig.device.takeAvailable()) rig.device.use(head, 0);
    expect(rig.queue.popUsed()).toBe(0);
    expect(ring.usedEvent).toBe(0);
    expect(rig.queue.hasUsed()).toBe(true);
    expect([rig.queue.popUsed(), rig.queue.popUsed(), rig.queue.hasUsed()]).toEqual([1, 2, false]);
    expect(ring.usedEvent).toBe(3);
    rig.queue.disableCalls();
    expect((ring.usedEvent - 3) & 0xffff).toBe(0x8000);
    expect(rig.queue.hasUsed()).toBe(false);
    expect((ring.usedEvent - 3) & 0xffff).toBe(0x8000);
    expect(rig.queue.enableCalls()).toBe(false);
    expect(ring.usedEvent).toBe(3);
    expect(ring.availFlags).toBe(0);
    expect(rig.close()).toBe(true);
  });

  it('markBroken stops everything at once and keeps the first reason', () => {
    const rig = createDriverRig();
    rig.queue.add(one(rig), 1);
    rig.queue.publish();
    rig.device.use(rig.device.takeAvailable()[0]!, 0);
    expect(rig.queue.hasUsed()).toBe(true);
    const reason = { section: '2.1', message: 'the device is gone' };
    rig.queue.markBroken(reason);
    rig.queue.markBroken({ section: '2.2', message: 'later' });
    expect(rig.queue.violation).toEqual(reason);
    expect(rig.queue.popUsed()).toBe(-1);
    expect(rig.queue.hasUsed()).toBe(false);
    expect(rig.queue.add(one(rig, 16), 2)).toBe(ADD_BROKEN);
    expect(rig.close()).toBe(true);
  });
});

describe('driver half: misuse and inspection', () => {
  it('refuses bad sizes, tokens and lists with RangeError or TypeError', () => {
    const rig = createDriverRig();
    const features = { indirect: false, eventIdx: false };
    for (const size of [0, 3, 65_536, -1, 1.5]) {
      expect(() => createDriverQueue({ size, dma: rig.dma, features })).toThrow(RangeError);
    }
    for (const bufferCountMax of [0, 1.5, -1]) {
      expect(() => createDriverQueue({ size: 4, dma: rig.dma, features, bufferCountMax })).toThrow(
        RangeError,
      );
    }
    for (const token of [-1, 2 ** 31, 0.5, Number.NaN])
      expect(() => rig.queue.add(one(rig), token)).toThrow(RangeError);
    expect(() => rig.queue.add(createBufferList(), 1)).toThrow(RangeError);
    expect(() => rig.queue.add({ count: 1 } as BufferList, 1)).toThrow(TypeError);
    for (const capacity of [0, -1, 1.5]) expect(() => createBufferList(capacity)).toThrow(RangeError);
    expect(rig.queue.inFlightCount).toBe(0);
    expect(rig.close()).toBe(true);
  });

  it('§2.7.4.2, §2.7.5.2 buffer lists keep the order of parts and the length limit, grow and are reusable', () => {
    const list = createBufferList(1);
    list.addReadable(0, 1);
    list.addWritable(8, 2);
    expect(() => list.addReadable(16, 1)).toThrow(RangeError);
    for (const size of [0, -1, 1.5, 2 ** 32]) expect(() => list.addWritable(0, size)).toThrow(RangeError);
    for (const offset of [-1, 0.5, 2 ** 32]) expect(() => list.addWritable(offset, 1)).toThrow(RangeError);
    expect(() => list.addWritable(0, 0xffff_fffd)).toThrow(RangeError);
    list.addWritable(0, 0xffff_fffc);
    expect(list.count).toBe(3);
    list.clear();
    list.addReadable(0, 0xffff_ffff);
    expect(list.count).toBe(1);
  });

  it('snapshot shows the shared words and the private ones', () => {
    const rig = createDriverRig({ size: 4, features: { eventIdx: true } });
    rig.queue.add(buffers(rig, 1, 1), 1);
    rig.queue.publish();
    rig.queue.add(one(rig, 64), 2);
    rig.device.ring.availEvent = 0x55;
    const snapshot = rig.queue.snapshot();
    expect(structuredClone(snapshot)).toEqual(snapshot);
    expect(snapshot).toMatchObject({
      side: 'driver',
      size: 4,
      availIdx: 1,
      shadowAvailIdx: 2,
      usedIdx: 0,
      shadowUsedIdx: 0,
      availEvent: 0x55,
      inFlight: [0, 2],
      available: [0, 2, 0, 0],
    });
    expect(snapshot.descriptors[0]).toMatchObject({ size: 16, flags: VRING_DESC_F_NEXT, next: 1 });
    expect(rig.close()).toBe(true);
  });
});
