import {
  VRING_DESC_F_WRITE as WRITE,
  VRING_PACKED_EVENT_FLAG_DESC,
  VRING_PACKED_EVENT_FLAG_DISABLE,
  VRING_PACKED_EVENT_FLAG_ENABLE,
} from '@virtlab/abi/virtio-ring';
import { describe, expect, it } from 'vitest';
import { createDeviceQueue } from './device-queue.ts';
import { createPackedDeviceRig, packedUsedFlags, type PackedDeviceRig } from './testing.ts';

/** Offers `count` chains of one writable buffer of 64 bytes under ids from `id` on. */
function offer({ driver, payload }: PackedDeviceRig, id: number, count: number = 1): void {
  for (let i = id; i < id + count; i++)
    driver.makeAvailable(i, { address: payload + BigInt(i * 64), size: 64, flags: WRITE });
}

/** Pops everything and completes it. */
function serve({ queue }: PackedDeviceRig, written: number = 0): number[] {
  const ids: number[] = [];
  for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
    ids.push(chain.head);
    queue.push(chain, written);
  }
  return ids;
}

describe('packed device half: requests', () => {
  it('§2.8.6 pops chains of consecutive descriptors, in order, with sizes and parts; the id is that of the last', () => {
    const rig = createPackedDeviceRig();
    const { driver, payload, queue } = rig;
    expect(queue.pop()).toBeUndefined();
    driver.makeAvailable(
      5,
      { address: payload, size: 10, id: 0xffff },
      { address: payload + 100n, size: 20, id: 77 },
      { address: payload + 200n, size: 30, flags: WRITE },
    );
    offer(rig, 2);
    const chain = queue.pop()!;
    expect(chain).toMatchObject({
      head: 5,
      readableCount: 2,
      readableSize: 30,
      writableSize: 30,
      descriptorCount: 3,
    });
    expect([...chain.segments.offset.subarray(0, 3)]).toEqual(
      [0, 100, 200].map((at) => rig.payloadOffset + at),
    );
    expect(queue.pop()).toMatchObject({ head: 2, readableCount: 0, writableSize: 64 });
    expect(queue.pop()).toBeUndefined();
    expect(queue.inFlightCount).toBe(2);
  });

  it('§2.8.6 writes one used descriptor for a chain and skips its slots, in the order of push', () => {
    const rig = createPackedDeviceRig();
    const { driver, payload, queue } = rig;
    driver.makeAvailable(0, { address: payload, size: 1 }, { address: payload, size: 9, flags: WRITE });
    offer(rig, 1);
    const [first, second] = [queue.pop()!, queue.pop()!];
    queue.push(second, 64);
    queue.push(first, 3);
    queue.publish();
    expect(driver.takeUsed()).toEqual([
      { id: 1, size: 64 },
      { id: 0, size: 3 },
    ]);
    expect(driver.ring.descriptor(0)).toMatchObject({ id: 1, flags: packedUsedFlags(1) | WRITE });
    expect(driver.ring.descriptor(1)).toMatchObject({ id: 0, flags: packedUsedFlags(1) | WRITE });
  });

  it('§2.8.3 WRITE in a used descriptor says whether anything was written', () => {
    const rig = createPackedDeviceRig();
    offer(rig, 0, 2);
    const [first, second] = [rig.queue.pop()!, rig.queue.pop()!];
    rig.queue.push(first, 0);
    rig.queue.push(second, 1);
    rig.queue.publish();
    expect(rig.driver.ring.descriptor(0).flags & WRITE).toBe(0);
    expect(rig.driver.ring.descriptor(1).flags & WRITE).toBe(WRITE);
  });

  it('shows a batch by the flags of its first descriptor, stored last', () => {
    const rig = createPackedDeviceRig();
    offer(rig, 0, 3);
    serve(rig, 7);
    expect(rig.driver.takeUsed()).toEqual([]);
    expect(rig.driver.ring.descriptor(1).flags).toBe(packedUsedFlags(1) | WRITE);
    expect(rig.driver.ring.descriptor(0).flags).not.toBe(packedUsedFlags(1) | WRITE);
    rig.queue.publish();
    expect(rig.driver.takeUsed().map(({ id }) => id)).toEqual([0, 1, 2]);
  });

  it('§2.8.1 goes round rings of any size many times, chains across the end included', () => {
    for (const size of [1, 2, 3, 5, 7, 8, 11]) {
      const rig = createPackedDeviceRig({ size });
      for (let round = 0; round < 50; round++) {
        const length = 1 + (round % Math.min(size, 3));
        const id = round % size;
        const buffer = { address: rig.payload, size: 4, flags: WRITE };
        rig.driver.makeAvailable(id, ...Array.from({ length }, () => buffer));
        const chain = rig.queue.pop()!;
        expect(chain).toMatchObject({ head: id, descriptorCount: length, writableSize: 4 * length });
        rig.queue.push(chain, round & 3);
        rig.queue.publish();
        expect(rig.driver.takeUsed()).toEqual([{ id, size: round & 3 }]);
      }
      rig.queue.release();
      rig.memory.assertNothingMapped();
    }
  });

  it('works with 32768 descriptors', () => {
    const rig = createPackedDeviceRig({ size: 32768 });
    for (let round = 0; round < 3; round++) {
      for (let id = 0; id < 32768; id++) rig.driver.makeAvailable(id, { address: rig.payload, size: 1 });
      expect(serve(rig).length).toBe(32768);
      rig.queue.publish();
      expect(rig.driver.takeUsed().length).toBe(32768);
    }
  });

  it('§2.8.7 reads indirect tables: as many entries as the length says, in order, of any alignment', () => {
    const rig = createPackedDeviceRig({ splitSize: 24 });
    const { driver, payload, queue } = rig;
    const named = driver.table(
      payload + 0x8003n,
      { address: payload, size: 4 },
      { address: payload + 64n, size: 8, flags: WRITE },
    );
    driver.makeAvailable(3, named);
    const chain = queue.pop()!;
    expect(chain).toMatchObject({ head: 3, readableSize: 4, writableSize: 8, descriptorCount: 2 });
    queue.push(chain, 8);
    queue.publish();
    offer(rig, 4);
    expect(queue.pop()).toMatchObject({ head: 4 });
    expect(driver.takeUsed()).toEqual([{ id: 3, size: 8 }]);
  });

  it('undoPop gives chains back in reverse order; they are popped again, read afresh', () => {
    const rig = createPackedDeviceRig({ size: 3 });
    const { driver, payload, queue } = rig;
    for (let round = 0; round < 7; round++) {
      driver.makeAvailable(0, { address: payload, size: 5 });
      driver.makeAvailable(1, { address: payload, size: 6 }, { address: payload, size: 1, flags: WRITE });
      const [first, second] = [queue.pop()!, queue.pop()!];
      expect(() => queue.undoPop(first)).toThrow(RangeError);
      queue.undoPop(second);
      queue.undoPop(first);
      expect(queue.inFlightCount).toBe(0);
      expect(queue.hasAvailable()).toBe(true);
      const again = queue.pop()!;
      expect(again).toMatchObject({ head: 0, readableSize: 5 });
      expect(queue.pop()).toMatchObject({ head: 1, readableSize: 6, writableSize: 1 });
      queue.push(again, 0);
      queue.push(second, 1);
      queue.publish();
      expect(driver.takeUsed().map(({ id }) => id)).toEqual([0, 1]);
    }
  });

  it('refuses chains that are not in flight, and written sizes that cannot be', () => {
    const rig = createPackedDeviceRig();
    const other = createPackedDeviceRig();
    offer(rig, 0);
    offer(other, 0);
    const chain = rig.queue.pop()!;
    const foreign = other.queue.pop()!;
    for (const size of [-1, 65, Number.NaN])
      expect(() => rig.queue.push(chain, size)).toThrow(`Written size ${size}`);
    expect(() => rig.queue.push(foreign, 0)).toThrow(RangeError);
    rig.queue.push(chain, 64);
    expect(() => rig.queue.push(chain, 64)).toThrow(RangeError);
    expect(() => rig.queue.undoPop(chain)).toThrow(RangeError);
  });

  it('release drops every mapping; afterwards nothing is read or written and late pushes are ignored', () => {
    const rig = createPackedDeviceRig();
    offer(rig, 0, 3);
    const chain = rig.queue.pop()!;
    rig.queue.push(rig.queue.pop()!, 1);
    rig.queue.release();
    rig.queue.release();
    rig.memory.assertNothingMapped();
    const before = [...rig.region.u8];
    rig.queue.push(chain, 1);
    rig.queue.publish();
    expect(rig.queue.needsCall()).toBe(false);
    expect([rig.queue.pop(), rig.queue.hasAvailable(), rig.queue.enableKicks()]).toEqual([
      undefined,
      false,
      false,
    ]);
    rig.queue.disableKicks();
    expect([...rig.region.u8]).toEqual(before);
    expect(rig.queue.snapshot()).toMatchObject({ format: 'packed', descriptors: [], inFlight: [] });
  });

  it('snapshot is plain data: descriptors, event areas, private positions, ids in flight', () => {
    const rig = createPackedDeviceRig({ size: 3, features: { eventIdx: true } });
    offer(rig, 0, 3);
    rig.queue.push(rig.queue.pop()!, 9);
    rig.queue.pop();
    rig.queue.publish();
    rig.driver.ring.driverEvent = { offWrap: 0x8002, flags: VRING_PACKED_EVENT_FLAG_DESC };
    const snapshot = rig.queue.snapshot();
    expect(structuredClone(snapshot)).toEqual(snapshot);
    expect(snapshot).toMatchObject({
      format: 'packed',
      side: 'device',
      size: 3,
      features: { indirect: true, eventIdx: true, packed: true },
      driverEvent: { slot: 2, wrap: 1, flags: VRING_PACKED_EVENT_FLAG_DESC },
      deviceEvent: { slot: 0, wrap: 0, flags: VRING_PACKED_EVENT_FLAG_ENABLE },
      shadowAvail: { slot: 2, wrap: 1 },
      shadowUsed: { slot: 1, wrap: 1 },
      inFlight: [1],
      violation: undefined,
    });
    expect(snapshot.descriptors).toHaveLength(3);
    expect(snapshot.descriptors[0]).toMatchObject({ id: 0, size: 9, flags: packedUsedFlags(1) | WRITE });
  });
});

describe('packed device half: suppression', () => {
  const ENABLE = { offWrap: 0, flags: VRING_PACKED_EVENT_FLAG_ENABLE };
  const DISABLE = { offWrap: 0, flags: VRING_PACKED_EVENT_FLAG_DISABLE };
  const at = (slot: number, wrap: number) => ({
    offWrap: slot | (wrap << 15),
    flags: VRING_PACKED_EVENT_FLAG_DESC,
  });

  it('§2.8.10 calls while the driver enables events, not while it disables them, once for each batch', () => {
    for (const eventIdx of [false, true]) {
      const rig = createPackedDeviceRig({ features: { eventIdx } });
      offer(rig, 0, 2);
      serve(rig);
      rig.driver.ring.driverEvent = ENABLE;
      expect([rig.queue.needsCall(), rig.queue.needsCall()]).toEqual([true, false]);
      offer(rig, 0, 2);
      serve(rig);
      rig.driver.ring.driverEvent = DISABLE;
      expect(rig.queue.needsCall()).toBe(false);
    }
  });

  it('§2.8.10 calls when the descriptor of the event is used, also inside a batch and inside a chain, and only then', () => {
    const size = 5;
    for (let event = 0; event < 2 * size; event++) {
      const rig = createPackedDeviceRig({ size, features: { eventIdx: true } });
      rig.driver.ring.driverEvent = at(event % size, event < size ? 1 : 0);
      const called: number[] = [];
      // Used slots: chains of 2, then of 1, round and round.
      for (let used = 0, round = 0; used < 2 * size; round++) {
        const length = 1 + (round % 2);
        const buffer = { address: rig.payload, size: 1 };
        rig.driver.makeAvailable(0, ...Array.from({ length }, () => buffer));
        serve(rig);
        if (rig.queue.needsCall()) called.push(used, used + length);
        used += length;
      }
      expect(called).toHaveLength(2);
      expect(event).toBeGreaterThanOrEqual(called[0]!);
      expect(event).toBeLessThan(called[1]!);
    }
  });

  it('calls after more than a lap between two questions, whatever the event says', () => {
    const rig = createPackedDeviceRig({ size: 4, features: { eventIdx: true } });
    for (let i = 0; i < 5; i++) {
      offer(rig, 0);
      serve(rig);
      rig.queue.publish();
    }
    rig.driver.ring.driverEvent = at(3, 0);
    expect(rig.queue.needsCall()).toBe(true);
  });

  it('case 38: flags of 3, or of 2 without VIRTIO_F_EVENT_IDX, and offsets outside the ring mean all events', () => {
    const outside = at(8, 1);
    const events = [{ offWrap: 0, flags: 3 }, { offWrap: 0, flags: 0xfffc }, outside, at(0x7fff, 0)];
    for (const event of events) {
      const rig = createPackedDeviceRig({ features: { eventIdx: true } });
      rig.driver.ring.driverEvent = event;
      offer(rig, 0);
      serve(rig);
      expect(rig.queue.needsCall()).toBe(true);
    }
    const rig = createPackedDeviceRig();
    rig.driver.ring.driverEvent = at(4, 1);
    offer(rig, 0);
    serve(rig);
    expect(rig.queue.needsCall()).toBe(true);
  });

  it('case 35: any value of the driver event leaves the queue working', () => {
    const rig = createPackedDeviceRig({ size: 3, features: { eventIdx: true } });
    for (let word = 0; word <= 0xffff; word += 251) {
      rig.driver.ring.driverEvent = { offWrap: word, flags: word % 5 };
      offer(rig, 0);
      expect(serve(rig)).toEqual([0]);
      rig.queue.needsCall();
      expect(rig.driver.takeUsed()).toHaveLength(1);
    }
    expect(rig.queue.violation).toBeUndefined();
  });

  it('§2.8.10 without event index: disableKicks and enableKicks write the flags, and enabling looks again', () => {
    const rig = createPackedDeviceRig();
    rig.queue.disableKicks();
    expect(rig.driver.ring.deviceEvent).toEqual(DISABLE);
    offer(rig, 0);
    expect(rig.queue.enableKicks()).toBe(true);
    expect(rig.driver.ring.deviceEvent).toEqual(ENABLE);
    serve(rig);
    expect(rig.queue.enableKicks()).toBe(false);
  });

  it('§2.8.10 with event index: the event names the next descriptor whenever the queue ran dry', () => {
    const rig = createPackedDeviceRig({ size: 3, features: { eventIdx: true } });
    expect(rig.queue.pop()).toBeUndefined();
    expect(rig.driver.ring.deviceEvent).toEqual(at(0, 1));
    offer(rig, 0, 2);
    expect(serve(rig)).toEqual([0, 1]);
    expect(rig.driver.ring.deviceEvent).toEqual(at(2, 1));
    offer(rig, 2);
    serve(rig);
    expect(rig.driver.ring.deviceEvent).toEqual(at(0, 0));
    rig.queue.disableKicks();
    expect(rig.driver.ring.deviceEvent).toEqual(DISABLE);
    expect(rig.queue.pop()).toBeUndefined();
    expect(rig.driver.ring.deviceEvent).toEqual(DISABLE);
    expect(rig.queue.enableKicks()).toBe(false);
    expect(rig.driver.ring.deviceEvent).toEqual(at(0, 0));
  });

  it('enableKicks counts descriptors that were not popped yet, but not those that undoPop took back', () => {
    for (const eventIdx of [false, true]) {
      const rig = createPackedDeviceRig({ size: 3, features: { eventIdx } });
      offer(rig, 0, 2);
      expect(rig.queue.enableKicks()).toBe(true);
      const [first, second] = [rig.queue.pop()!, rig.queue.pop()!];
      rig.queue.undoPop(second);
      rig.queue.undoPop(first);
      expect(rig.queue.enableKicks()).toBe(false);
      expect(rig.driver.ring.deviceEvent).toEqual(eventIdx ? at(2, 1) : ENABLE);
      offer(rig, 2);
      expect(rig.queue.enableKicks()).toBe(true);
      expect(serve(rig)).toEqual([0, 1, 2]);
    }
  });
});

describe('packed device half: areas', () => {
  it('cases 24, 25 §2.8, §2.8.11: sizes and addresses that cannot be are answered, with nothing left mapped', () => {
    const rig = createPackedDeviceRig();
    const { addresses } = rig.driver.ring;
    const features = { packed: true, indirect: true, eventIdx: true };
    const create = (change: Partial<typeof addresses>) =>
      createDeviceQueue({ addresses: { ...addresses, ...change }, memory: rig.memory, features });
    for (const size of [0, 32769, 0x10000, -8, 1.5, Number.NaN])
      expect(create({ size })).toMatchObject({ ok: false, violation: { section: '2.8' } });
    for (const area of ['descriptorArea', 'driverArea', 'deviceArea'] as const) {
      expect(create({ [area]: addresses[area] + 2n })).toMatchObject({ violation: { section: '2.8.11' } });
      const end = rig.base + BigInt(rig.region.size);
      for (const address of [0n, end, 1n << 64n, -16n])
        expect(create({ [area]: address })).toMatchObject({ ok: false, violation: { section: '2.8' } });
    }
    expect(rig.memory.leaks()).toHaveLength(3);
  });
});
