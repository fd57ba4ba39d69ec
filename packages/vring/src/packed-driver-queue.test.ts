import {
  VRING_DESC_F_INDIRECT as INDIRECT,
  VRING_DESC_F_NEXT as NEXT,
  VRING_DESC_F_WRITE as WRITE,
  VRING_PACKED_EVENT_FLAG_DESC,
  VRING_PACKED_EVENT_FLAG_DISABLE,
  VRING_PACKED_EVENT_FLAG_ENABLE,
} from '@virtlab/abi/virtio-ring';
import { describe, expect, it } from 'vitest';
import { createBufferList } from './buffer-list.ts';
import { ADD_BROKEN, ADD_FULL, ADD_NO_ADDRESS, type BufferList } from './contract.ts';
import { createDriverQueue } from './driver-queue.ts';
import {
  createPackedDriverRig,
  packedAvailableFlags,
  type PackedDriverRig,
  packedUsedFlags,
} from './testing.ts';

let place = 0;

/** `readable` then `writable` buffers of 16 bytes each, where no other request has any. */
function buffers({ payload }: PackedDriverRig, readable: number, writable: number): BufferList {
  const list = createBufferList();
  const at = payload + (place++ % 500) * 128;
  for (let i = 0; i < readable; i++) list.addReadable(at + i * 16, 16);
  for (let i = 0; i < writable; i++) list.addWritable(at + (readable + i) * 16, 16);
  return list;
}

describe('packed driver half: requests', () => {
  it('§2.8.21 a batch is shown by the flags of its first descriptor, stored last', () => {
    const rig = createPackedDriverRig();
    const { queue, device } = rig;
    expect(queue.add(buffers(rig, 1, 2), 7)).toBe(0);
    expect(queue.add(buffers(rig, 1, 0), 8)).toBe(0);
    expect(device.takeAvailable()).toEqual([]);
    expect(device.ring.descriptor(0).flags).toBe(0);
    const own = packedAvailableFlags(1);
    expect([1, 2, 3].map((slot) => device.ring.descriptor(slot).flags)).toEqual([
      own | WRITE | NEXT,
      own | WRITE,
      own,
    ]);
    queue.publish();
    const ids = device.takeAvailable();
    expect(ids).toHaveLength(2);
    expect(device.ring.descriptor(0)).toMatchObject({ size: 16, flags: own | NEXT });
    expect(device.slots(ids[0]!).map(({ id }) => id)).toEqual([ids[0], ids[0], ids[0]]);
    expect(queue.freeCount).toBe(4);
    device.use(ids[1]!, 0);
    device.use(ids[0]!, 20);
    expect([queue.popUsed(), queue.usedSize]).toEqual([8, 0]);
    expect([queue.popUsed(), queue.usedSize]).toEqual([7, 20]);
    expect([queue.popUsed(), queue.freeCount, queue.inFlightCount]).toEqual([-1, 8, 0]);
    expect(rig.close()).toBe(true);
  });

  it('§2.8.3 takes the length of a used descriptor with and without WRITE: devices forget it', () => {
    const rig = createPackedDriverRig();
    rig.queue.add(buffers(rig, 0, 1), 1);
    rig.queue.publish();
    const [id] = rig.device.takeAvailable();
    rig.device.ring.setDescriptor(0, { id: id!, size: 9, flags: packedUsedFlags(1) });
    expect([rig.queue.popUsed(), rig.queue.usedSize]).toEqual([1, 9]);
  });

  it('goes round rings of any size, with requests of changing shape, completed out of order', () => {
    for (const size of [1, 2, 3, 5, 8, 11]) {
      const rig = createPackedDriverRig({ size });
      const outstanding = new Set<number>();
      let token = 0;
      for (let round = 0; round < 200; round++) {
        while (rig.queue.add(buffers(rig, 1, token % Math.min(size, 3)), token) === 0)
          outstanding.add(token++);
        rig.queue.publish();
        const ids = rig.device.takeAvailable();
        for (const id of round % 2 === 0 ? ids : ids.toReversed()) rig.device.use(id, 0);
        for (let done = rig.queue.popUsed(); done >= 0; done = rig.queue.popUsed())
          expect(outstanding.delete(done)).toBe(true);
        expect(outstanding.size).toBe(0);
        expect(rig.queue.freeCount).toBe(size);
      }
      expect(rig.queue.violation).toBeUndefined();
      expect(rig.close()).toBe(true);
    }
  });

  it('§2.8.7 uses one table for more than one buffer, entries with WRITE only, and a plain descriptor for one', () => {
    const rig = createPackedDriverRig({ features: { indirect: true }, bufferCountMax: 4 });
    rig.queue.add(buffers(rig, 1, 2), 1);
    rig.queue.add(buffers(rig, 1, 0), 2);
    rig.queue.add(buffers(rig, 3, 3), 3);
    rig.queue.publish();
    const [first, second, third] = rig.device.takeAvailable();
    expect(rig.device.slots(first!)).toMatchObject([{ size: 48, flags: packedAvailableFlags(1) | INDIRECT }]);
    expect(rig.device.chain(first!).map(({ size, flags }) => [size, flags])).toEqual([
      [16, 0],
      [16, WRITE],
      [16, WRITE],
    ]);
    expect(rig.device.slots(second!)).toMatchObject([{ flags: packedAvailableFlags(1) }]);
    expect(rig.device.slots(third!)).toHaveLength(6);
    expect(rig.queue.freeCount).toBe(0);
    for (const id of [third, first, second]) rig.device.use(id!, 16);
    expect([rig.queue.popUsed(), rig.queue.popUsed(), rig.queue.popUsed()]).toEqual([3, 1, 2]);
    expect(rig.queue.freeCount).toBe(8);
    expect(rig.close()).toBe(true);
  });

  it('ADD_FULL and ADD_NO_ADDRESS change nothing: descriptors that were begun never become available', () => {
    for (const staged of [0, 1]) {
      const rig = createPackedDriverRig({ size: 5, shareMax: 3 });
      const { queue, device } = rig;
      for (let i = 0; i < 4; i++) {
        for (let j = 0; j < staged; j++) expect(queue.add(buffers(rig, 1, 0), 0)).toBe(0);
        expect(queue.add(buffers(rig, 2, 2), 1)).toBe(ADD_NO_ADDRESS);
        expect(queue.add(buffers(rig, 1, 0), 2)).toBe(0);
        queue.publish();
        const ids = device.takeAvailable();
        expect(ids).toHaveLength(1 + staged);
        for (const id of ids) device.use(id, 0);
        expect(ids.map(() => queue.popUsed())).toEqual(staged === 1 ? [0, 2] : [2]);
      }
      expect(queue.add(buffers(rig, 1, 1), 1)).toBe(0);
      expect(queue.add(buffers(rig, 1, 3), 2)).toBe(ADD_FULL);
      queue.publish();
      expect(device.takeAvailable()).toHaveLength(1);
      expect(rig.close()).toBe(true);
    }
  });

  it('refuses what no queue of this size takes', () => {
    const rig = createPackedDriverRig({ size: 3 });
    expect(() => rig.queue.add(buffers(rig, 4, 0), 0)).toThrow(RangeError);
    expect(() => rig.queue.add(createBufferList(), 0)).toThrow(RangeError);
    for (const token of [-1, 0.5, 2 ** 31])
      expect(() => rig.queue.add(buffers(rig, 1, 0), token)).toThrow(RangeError);
    const features = { packed: true, indirect: false, eventIdx: false };
    for (const size of [0, 32769, 1.5, -1])
      expect(() => createDriverQueue({ size, dma: rig.dma, features })).toThrow(RangeError);
  });

  it('release ends every share, abandons each token once, and the queue is inert afterwards', () => {
    const rig = createPackedDriverRig({ features: { indirect: true } });
    for (let token = 0; token < 4; token++) rig.queue.add(buffers(rig, 1, token % 2), token);
    rig.queue.publish();
    rig.queue.add(buffers(rig, 1, 0), 4);
    const abandoned: number[] = [];
    expect(rig.queue.release((token) => abandoned.push(token))).toBe(true);
    expect(abandoned.toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4]);
    expect(rig.queue.add(buffers(rig, 1, 0), 9)).toBe(ADD_BROKEN);
    expect([
      rig.queue.popUsed(),
      rig.queue.hasUsed(),
      rig.queue.needsKick(),
      rig.queue.enableCalls(),
    ]).toEqual([-1, false, false, false]);
    rig.queue.publish();
    rig.queue.disableCalls();
    expect(rig.queue.snapshot()).toMatchObject({ format: 'packed', descriptors: [], inFlight: [] });
    expect(rig.close()).toBe(true);
  });

  it('markBroken stops everything at once and keeps the first reason', () => {
    const rig = createPackedDriverRig();
    rig.queue.add(buffers(rig, 1, 0), 1);
    rig.queue.publish();
    rig.device.use(rig.device.takeAvailable()[0]!, 0);
    expect(rig.queue.hasUsed()).toBe(true);
    rig.queue.markBroken({ section: '1', message: 'died' });
    rig.queue.markBroken({ section: '2', message: 'again' });
    expect(rig.queue.violation).toEqual({ section: '1', message: 'died' });
    expect([rig.queue.popUsed(), rig.queue.hasUsed(), rig.queue.needsKick()]).toEqual([-1, false, false]);
    expect(rig.close()).toBe(true);
  });

  it('snapshot shows the ring, the event areas and the private positions', () => {
    const rig = createPackedDriverRig({ size: 3, features: { eventIdx: true } });
    rig.queue.add(buffers(rig, 1, 1), 1);
    rig.queue.publish();
    const [id] = rig.device.takeAvailable();
    const snapshot = rig.queue.snapshot();
    expect(structuredClone(snapshot)).toEqual(snapshot);
    expect(snapshot).toMatchObject({
      format: 'packed',
      side: 'driver',
      size: 3,
      shadowAvail: { slot: 2, wrap: 1 },
      shadowUsed: { slot: 0, wrap: 1 },
      inFlight: [id],
      deviceEvent: { slot: 0, wrap: 0, flags: 0 },
    });
    expect(rig.close()).toBe(true);
  });
});

describe('packed driver half: suppression', () => {
  const at = (slot: number, wrap: number) => ({
    offWrap: slot | (wrap << 15),
    flags: VRING_PACKED_EVENT_FLAG_DESC,
  });
  const flags = (value: number) => ({ offWrap: 0, flags: value });

  /** Sends `count` requests of one buffer and takes them back; whether a kick was wanted. */
  function send(rig: PackedDriverRig, count: number): boolean {
    for (let i = 0; i < count; i++) expect(rig.queue.add(buffers(rig, 1, 0), i)).toBe(0);
    const kick = rig.queue.needsKick();
    for (const id of rig.device.takeAvailable()) rig.device.use(id, 0);
    for (let i = 0; i < count; i++) expect(rig.queue.popUsed()).toBeGreaterThanOrEqual(0);
    return kick;
  }

  it('§2.8.10 kicks while the device enables events, not while it disables them, once for each batch', () => {
    for (const eventIdx of [false, true]) {
      const rig = createPackedDriverRig({ features: { eventIdx } });
      expect([send(rig, 2), rig.queue.needsKick()]).toEqual([true, false]);
      rig.device.ring.deviceEvent = flags(VRING_PACKED_EVENT_FLAG_DISABLE);
      expect(send(rig, 3)).toBe(false);
      rig.device.ring.deviceEvent = flags(VRING_PACKED_EVENT_FLAG_ENABLE);
      expect(send(rig, 1)).toBe(true);
    }
  });

  it('§2.8.10 kicks when the descriptor of the event becomes available, and only then', () => {
    const size = 5;
    for (let event = 0; event < 2 * size; event++) {
      const rig = createPackedDriverRig({ size, features: { eventIdx: true } });
      rig.device.ring.deviceEvent = at(event % size, event < size ? 1 : 0);
      const kicks: boolean[] = [];
      for (let slot = 0; slot < 2 * size; slot += 2) kicks.push(send(rig, 2));
      expect(kicks).toEqual(kicks.map((_, i) => i === event >> 1));
    }
  });

  it('case 38: flags of 3, or of 2 without VIRTIO_F_EVENT_IDX, and offsets outside the ring mean all events', () => {
    for (const event of [flags(3), flags(0xffff), at(8, 1), at(0x7fff, 0)]) {
      const rig = createPackedDriverRig({ features: { eventIdx: true } });
      rig.device.ring.deviceEvent = event;
      expect(send(rig, 1)).toBe(true);
    }
    const rig = createPackedDriverRig();
    rig.device.ring.deviceEvent = at(5, 1);
    expect(send(rig, 1)).toBe(true);
  });

  it('§2.8.10 without event index: disableCalls and enableCalls write the flags, and enabling looks again', () => {
    const rig = createPackedDriverRig();
    rig.queue.disableCalls();
    expect(rig.device.ring.driverEvent).toEqual(flags(VRING_PACKED_EVENT_FLAG_DISABLE));
    rig.queue.add(buffers(rig, 1, 0), 1);
    rig.queue.publish();
    rig.device.use(rig.device.takeAvailable()[0]!, 0);
    expect(rig.queue.enableCalls()).toBe(true);
    expect(rig.device.ring.driverEvent).toEqual(flags(VRING_PACKED_EVENT_FLAG_ENABLE));
    expect(rig.queue.popUsed()).toBe(1);
    expect(rig.queue.enableCalls()).toBe(false);
  });

  it('§2.8.10 with event index: the event names the next used descriptor whenever the ring ran dry', () => {
    const rig = createPackedDriverRig({ size: 3, features: { eventIdx: true } });
    expect(rig.queue.popUsed()).toBe(-1);
    expect(rig.device.ring.driverEvent).toEqual(at(0, 1));
    send(rig, 2);
    expect(rig.queue.popUsed()).toBe(-1);
    expect(rig.device.ring.driverEvent).toEqual(at(2, 1));
    send(rig, 1);
    expect(rig.queue.hasUsed()).toBe(false);
    expect(rig.device.ring.driverEvent).toEqual(at(0, 0));
    rig.queue.disableCalls();
    expect(rig.device.ring.driverEvent).toEqual(flags(VRING_PACKED_EVENT_FLAG_DISABLE));
    rig.queue.enableCalls();
    expect(rig.device.ring.driverEvent).toEqual(at(0, 0));
  });
});

describe('packed ring, hostile device', () => {
  /** A rig with `count` published requests of one writable buffer of 16 bytes; tokens go up from 0. */
  function published(count: number, inOrder: boolean = false): { rig: PackedDriverRig; ids: number[] } {
    const rig = createPackedDriverRig({ features: { inOrder } });
    for (let token = 0; token < count; token++) rig.queue.add(buffers(rig, 0, 1), token);
    rig.queue.publish();
    return { rig, ids: rig.device.takeAvailable() };
  }

  /** What is missing of a queue that broke as it should. Closes the rig. */
  function missing(rig: PackedDriverRig, section: string, ...words: readonly string[]): string[] {
    const { queue } = rig;
    const missed: string[] = [];
    const want = (what: string, held: boolean): void => {
      if (!held) missed.push(what);
    };
    want('popUsed gives nothing', queue.popUsed() === -1);
    want(`section ${section}, not ${queue.violation?.section}`, queue.violation?.section === section);
    for (const word of words)
      want(`"${word}" in "${queue.violation?.message}"`, queue.violation?.message.includes(word) === true);
    want('popUsed stays empty', queue.popUsed() === -1 && !queue.hasUsed() && !queue.enableCalls());
    want('no kick', !queue.needsKick());
    want('add is refused', queue.add(buffers(rig, 1, 0), 99) === ADD_BROKEN);
    want('everything taken back', rig.close());
    return missed;
  }

  it('case 30 §2.8.22 used id outside the queue', () => {
    for (const inOrder of [false, true]) {
      for (const id of [8, 0xffff]) {
        const { rig } = published(2, inOrder);
        rig.device.use(id, 0);
        expect(missing(rig, '2.8.22', `0x${id.toString(16)}, in a queue of 0x8`)).toEqual([]);
      }
    }
  });

  it('case 31 §2.8.22 used id of no request, of one that is staged only, or used twice', () => {
    for (const inOrder of [false, true]) {
      const none = published(1, inOrder).rig;
      none.device.use(5, 0);
      expect(missing(none, '2.8.22', 'id 0x5', 'no request')).toEqual([]);

      const staged = published(1, inOrder).rig;
      staged.queue.add(buffers(staged, 0, 1), 1);
      const inFlight = staged.queue.snapshot().inFlight;
      staged.device.use(inFlight.at(-1)!, 0);
      expect(missing(staged, '2.8.22', 'no request')).toEqual([]);

      const { rig, ids } = published(2, inOrder);
      rig.device.use(ids[0]!, 0);
      rig.device.use(ids[0]!, 0);
      expect(rig.queue.popUsed()).toBe(0);
      expect(missing(rig, '2.8.22', 'no request')).toEqual([]);
    }
  });

  it('case 32 a written size over what is writable is clamped and counted', () => {
    const { rig, ids } = published(1);
    rig.device.use(ids[0]!, 0xffff_ffff);
    expect([rig.queue.popUsed(), rig.queue.usedSize, rig.queue.clampedCount]).toEqual([0, 16, 1]);
  });

  it('case 33 §2.8.15 a descriptor is used though the device has no request', () => {
    for (const inOrder of [false, true]) {
      const rig = createPackedDriverRig({ features: { inOrder } });
      rig.queue.add(buffers(rig, 0, 1), 0);
      rig.device.use(0, 0);
      expect(missing(rig, '2.8.15', 'Descriptor 0x0')).toEqual([]);
    }
  });

  it('case 34 a used descriptor is judged by one load of its flags and id', () => {
    const { rig, ids } = published(2);
    rig.device.use(ids[1]!, 3);
    expect(rig.queue.hasUsed()).toBe(true);
    rig.device.ring.setDescriptor(0, { id: 0x7777, size: 4, flags: 0 });
    expect([rig.queue.popUsed(), rig.queue.usedSize]).toEqual([1, 4]);
  });

  it('case 35 any value of the device event leaves the queue working', () => {
    const rig = createPackedDriverRig({ size: 3, features: { eventIdx: true } });
    for (let word = 0; word <= 0xffff; word += 251) {
      rig.device.ring.deviceEvent = { offWrap: word, flags: word % 5 };
      rig.queue.add(buffers(rig, 0, 1), word);
      rig.queue.needsKick();
      rig.device.use(rig.device.takeAvailable()[0]!, 0);
      expect(rig.queue.popUsed()).toBe(word);
    }
  });

  it('case 39 descriptors and tables rewritten by the device change nothing: chain lengths are private', () => {
    for (const indirect of [false, true]) {
      const rig = createPackedDriverRig({ size: 4, features: { indirect } });
      for (let round = 0; round < 10; round++) {
        expect(rig.queue.add(buffers(rig, 1, 2), round)).toBe(0);
        rig.queue.publish();
        const [id] = rig.device.takeAvailable();
        const { ring, usedSlot, usedWrap } = rig.device;
        const [named] = rig.device.slots(id!);
        const rubbish = { address: 0xdead_beefn, size: 0xffff_ffff, id: 3, flags: NEXT };
        if (indirect) for (let i = 0n; i < 3n; i++) ring.writeDescriptor(named!.address + i * 16n, rubbish);
        for (let slot = 0; slot < 4; slot++) if (slot !== usedSlot) ring.setDescriptor(slot, rubbish);
        ring.setDescriptor(usedSlot, { ...rubbish, id: id!, flags: packedUsedFlags(usedWrap) | NEXT });
        rig.device.use(id!, 8);
        expect(rig.queue.popUsed()).toBe(round);
        expect(rig.queue.freeCount).toBe(4);
      }
      expect(rig.close()).toBe(true);
    }
  });
});
