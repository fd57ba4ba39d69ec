import {
  VRING_AVAIL_F_NO_INTERRUPT,
  VRING_DESC_F_WRITE,
  VRING_USED_F_NO_NOTIFY,
} from '@virtlab/abi/virtio-ring';
import { describe, expect, it } from 'vitest';
import type { DescriptorChain } from './contract.ts';
import { createDeviceRig, type DeviceRig } from './testing.ts';

/** Makes `count` one-buffer requests available, descriptors from `first`. */
function offer({ driver, payload }: DeviceRig, first: number, count: number): void {
  for (let i = 0; i < count; i++) {
    const address = payload + BigInt((first + i) * 64);
    driver.makeAvailable(driver.chain(first + i, { address, size: 64, flags: VRING_DESC_F_WRITE }));
  }
}

function popAll({ queue }: DeviceRig): DescriptorChain[] {
  const chains: DescriptorChain[] = [];
  for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) chains.push(chain);
  return chains;
}

describe('device half: buffers', () => {
  it('§2.7.13 pops what was made available, in order, with sizes and parts', () => {
    const rig = createDeviceRig();
    const { driver, queue, payload, payloadOffset } = rig;
    const head = driver.chain(
      2,
      { address: payload, size: 16 },
      { address: payload + 0x100n, size: 32, flags: VRING_DESC_F_WRITE },
      { address: payload + 0x200n, size: 1, flags: VRING_DESC_F_WRITE },
    );
    driver.makeAvailable(head, driver.chain(7, { address: payload, size: 4 }));
    const [first, second] = popAll(rig);
    expect(first).toMatchObject({
      head: 2,
      readableCount: 1,
      readableSize: 16,
      writableSize: 33,
      descriptorCount: 3,
    });
    expect([...first!.segments.offset.subarray(0, 3)]).toEqual(
      [0, 0x100, 0x200].map((at) => payloadOffset + at),
    );
    expect([...first!.segments.size.subarray(0, 3)]).toEqual([16, 32, 1]);
    expect(first!.regions[first!.segments.region[0]!]).toBe(rig.region);
    expect(second).toMatchObject({ head: 7, readableCount: 1, readableSize: 4, writableSize: 0 });
    expect(queue.inFlightCount).toBe(2);
    expect(queue.pop()).toBeUndefined();
    queue.release();
    rig.memory.assertNothingMapped();
  });

  it('§2.7.8 stages used entries in the order of push and shows a batch with one index store', () => {
    const rig = createDeviceRig();
    offer(rig, 0, 3);
    const [a, b, c] = popAll(rig);
    rig.queue.push(c!, 64);
    rig.queue.push(a!, 0);
    expect(rig.driver.ring.usedIdx).toBe(0);
    rig.queue.publish();
    expect(rig.driver.takeUsed()).toEqual([
      { id: 2, size: 64 },
      { id: 0, size: 0 },
    ]);
    rig.queue.push(b!, 7);
    rig.queue.publish();
    rig.queue.publish();
    expect(rig.driver.takeUsed()).toEqual([{ id: 1, size: 7 }]);
    rig.queue.release();
    rig.memory.assertNothingMapped();
  });

  it('goes round the rings and past the wrap of the 16-bit indices', () => {
    const rig = createDeviceRig({ size: 4, features: { eventIdx: true } });
    rig.driver.ring.setDescriptor(1, { address: rig.payload, size: 8, flags: VRING_DESC_F_WRITE });
    for (let i = 0; i < 66_000; i++) {
      rig.driver.makeAvailable(1);
      const chain = rig.queue.pop();
      if (chain === undefined) throw new Error(`nothing at ${i}: ${rig.queue.violation?.message}`);
      rig.queue.push(chain, i & 7);
      rig.queue.publish();
      const [used] = rig.driver.takeUsed();
      if (used?.id !== 1 || used.size !== (i & 7)) throw new Error(`wrong used entry at ${i}`);
    }
    expect(rig.driver.ring.usedIdx).toBe(66_000 & 0xffff);
  });

  it('works with queues of 1 and of 32768 entries', () => {
    for (const size of [1, 32768]) {
      const rig = createDeviceRig({ size });
      const last = size - 1;
      rig.driver.makeAvailable(rig.driver.chain(last, { address: rig.payload, size: 4 }));
      const chain = rig.queue.pop()!;
      expect(chain.head).toBe(last);
      rig.queue.push(chain, 0);
      rig.queue.publish();
      expect(rig.driver.takeUsed()).toEqual([{ id: last, size: 0 }]);
    }
  });

  it('undoPop gives chains back in reverse order; they are popped again, read afresh', () => {
    const rig = createDeviceRig();
    offer(rig, 0, 3);
    const [a, b, c] = popAll(rig);
    expect(() => rig.queue.undoPop(b!)).toThrow(RangeError);
    rig.queue.undoPop(c!);
    rig.queue.undoPop(b!);
    expect(rig.queue.inFlightCount).toBe(1);
    rig.driver.chain(1, { address: rig.payload, size: 5 });
    expect(popAll(rig).map(({ head, readableSize }) => [head, readableSize])).toEqual([
      [1, 5],
      [2, 0],
    ]);
    expect(a!.writableSize).toBe(64);
    rig.queue.release();
    rig.memory.assertNothingMapped();
  });

  it('a broken queue still takes chains back, in any way, and writes nothing', () => {
    const rig = createDeviceRig();
    offer(rig, 0, 4);
    const chains = [rig.queue.pop()!, rig.queue.pop()!, rig.queue.pop()!];
    rig.driver.ring.setAvailableEntry(3, 99);
    expect(rig.queue.pop()).toBeUndefined();
    expect(rig.queue.violation).toBeDefined();
    rig.queue.undoPop(chains[2]!);
    rig.queue.undoPop(chains[1]!);
    rig.queue.push(chains[0]!, 64);
    rig.queue.publish();
    expect(rig.queue.pop()).toBeUndefined();
    expect([rig.queue.inFlightCount, rig.driver.ring.usedIdx]).toEqual([0, 0]);
    expect(rig.memory.leaks()).toHaveLength(3);
  });

  it('refuses chains that are not in flight, and written sizes that cannot be', () => {
    const rig = createDeviceRig();
    const other = createDeviceRig();
    offer(rig, 0, 1);
    offer(other, 0, 1);
    const chain = rig.queue.pop()!;
    expect(() => rig.queue.push(other.queue.pop()!, 0)).toThrow(RangeError);
    for (const size of [-1, 65, Number.NaN]) expect(() => rig.queue.push(chain, size)).toThrow(RangeError);
    rig.queue.push(chain, 64);
    expect(() => rig.queue.push(chain, 64)).toThrow(RangeError);
    expect(() => rig.queue.undoPop(chain)).toThrow(RangeError);
  });

  it('release drops every mapping; afterwards nothing is read or written and late pushes are ignored', () => {
    const rig = createDeviceRig();
    offer(rig, 0, 3);
    const [a, b] = [rig.queue.pop()!, rig.queue.pop()!];
    rig.queue.push(b, 3);
    rig.queue.release();
    rig.memory.assertNothingMapped();
    const before = rig.region.u8.slice();
    rig.queue.push(a, 1);
    rig.queue.undoPop(a);
    rig.queue.publish();
    expect([rig.queue.needsCall(), rig.queue.enableKicks(), rig.queue.hasAvailable()]).toEqual([
      false,
      false,
      false,
    ]);
    rig.queue.disableKicks();
    expect(a.writeU8(0, 1)).toBe(false);
    expect(rig.queue.pop()).toBeUndefined();
    expect(rig.queue.inFlightCount).toBe(0);
    expect(rig.queue.snapshot()).toMatchObject({ descriptors: [], available: [], used: [] });
    expect(rig.region.u8).toEqual(before);
    rig.queue.release();
  });

  it('snapshot is plain data: shared words, private indices, heads in flight', () => {
    const rig = createDeviceRig({ size: 4, features: { eventIdx: true } });
    offer(rig, 0, 3);
    rig.queue.pop();
    const chain = rig.queue.pop()!;
    rig.queue.push(chain, 9);
    rig.queue.publish();
    rig.driver.ring.usedEvent = 0x1234;
    const snapshot = rig.queue.snapshot();
    expect(structuredClone(snapshot)).toEqual(snapshot);
    expect(snapshot).toMatchObject({
      side: 'device',
      size: 4,
      features: { indirect: true, eventIdx: true },
      availIdx: 3,
      usedIdx: 1,
      usedEvent: 0x1234,
      shadowAvailIdx: 2,
      shadowUsedIdx: 1,
      inFlight: [0],
      violation: undefined,
      available: [0, 1, 2, 0],
    });
    expect(snapshot.descriptors[1]).toEqual({ address: rig.payload + 64n, size: 64, flags: 2, next: 0 });
    if (snapshot.format !== 'split') throw new Error('not split');
    expect(snapshot.used[0]).toEqual({ id: 1, size: 9 });
  });
});

describe('device half: calls', () => {
  it('§2.7.7.2 flags: MUST call while avail.flags is 0, SHOULD NOT while it is 1, once for each batch', () => {
    const rig = createDeviceRig();
    offer(rig, 0, 4);
    const [a, b, c, d] = popAll(rig);
    expect(rig.queue.needsCall()).toBe(false);
    rig.queue.push(a!, 0);
    rig.queue.push(b!, 0);
    expect(rig.queue.needsCall()).toBe(true);
    expect(rig.driver.ring.usedIdx).toBe(2);
    expect(rig.queue.needsCall()).toBe(false);
    rig.driver.ring.availFlags = VRING_AVAIL_F_NO_INTERRUPT;
    rig.queue.push(c!, 0);
    expect(rig.queue.needsCall()).toBe(false);
    rig.driver.ring.availFlags = 0;
    rig.queue.push(d!, 0);
    expect(rig.queue.needsCall()).toBe(true);
  });

  it('§2.7.7.2 flags: MUST ignore used_event; event index: MUST ignore avail.flags', () => {
    const flags = createDeviceRig();
    flags.driver.ring.usedEvent = 0x8000;
    const event = createDeviceRig({ features: { eventIdx: true } });
    event.driver.ring.availFlags = VRING_AVAIL_F_NO_INTERRUPT;
    for (const rig of [flags, event]) {
      offer(rig, 0, 1);
      rig.queue.push(rig.queue.pop()!, 0);
      expect(rig.queue.needsCall()).toBe(true);
    }
  });

  it('§2.7.7.2 event index: MUST call when used_event is crossed, and only then', () => {
    const rig = createDeviceRig({ features: { eventIdx: true } });
    rig.driver.ring.usedEvent = 2;
    offer(rig, 0, 6);
    const answers = popAll(rig).map((chain) => {
      rig.queue.push(chain, 0);
      return rig.queue.needsCall();
    });
    expect(answers).toEqual([false, false, true, false, false, false]);
  });

  it('§2.7.7.2 event index: MUST call when a batch crosses used_event, also when publish went before', () => {
    const rig = createDeviceRig({ features: { eventIdx: true } });
    rig.driver.ring.usedEvent = 1;
    offer(rig, 0, 3);
    for (const chain of popAll(rig)) {
      rig.queue.push(chain, 0);
      rig.queue.publish();
    }
    expect(rig.queue.needsCall()).toBe(true);
    expect(rig.queue.needsCall()).toBe(false);
  });

  it('§2.7.7.2 calls after a whole lap of 2^16 entries between two questions, whatever used_event says', () => {
    const rig = createDeviceRig({ size: 8, features: { eventIdx: true } });
    rig.driver.ring.setDescriptor(0, { address: rig.payload, size: 8 });
    rig.driver.ring.usedEvent = 3;
    for (let i = 0; i < 65_536; i++) {
      rig.driver.makeAvailable(0);
      rig.queue.push(rig.queue.pop()!, 0);
      rig.queue.publish();
    }
    expect(rig.driver.ring.usedIdx).toBe(0);
    expect(rig.queue.needsCall()).toBe(true);
  });

  it('case 35: any value of used_event leaves the queue working', () => {
    const rig = createDeviceRig({ features: { eventIdx: true } });
    for (const event of [0xffff, 0x8000, 1, 0, 0x7fff]) {
      rig.driver.ring.usedEvent = event;
      offer(rig, 0, 1);
      rig.queue.push(rig.queue.pop()!, 0);
      expect(typeof rig.queue.needsCall()).toBe('boolean');
      expect(rig.queue.violation).toBeUndefined();
    }
  });
});

describe('device half: kicks', () => {
  it('§2.7.10.2 flags: disableKicks sets used.flags, enableKicks clears it and looks again', () => {
    const rig = createDeviceRig();
    const { ring } = rig.driver;
    rig.queue.disableKicks();
    expect(ring.usedFlags).toBe(VRING_USED_F_NO_NOTIFY);
    expect(rig.queue.enableKicks()).toBe(false);
    expect(ring.usedFlags).toBe(0);
    rig.queue.disableKicks();
    offer(rig, 0, 1);
    expect(rig.queue.enableKicks()).toBe(true);
    expect(ring.usedFlags).toBe(0);
    expect(popAll(rig)).toHaveLength(1);
  });

  it('§2.7.10.2 event index: used.flags MUST stay 0; avail_event names the next entry whenever the queue ran dry', () => {
    const rig = createDeviceRig({ features: { eventIdx: true } });
    const { ring } = rig.driver;
    ring.availEvent = 0x7777;
    expect(rig.queue.pop()).toBeUndefined();
    expect(ring.availEvent).toBe(0);
    offer(rig, 0, 3);
    expect(rig.queue.pop()).toBeDefined();
    expect(ring.availEvent).toBe(0);
    popAll(rig);
    expect(ring.availEvent).toBe(3);
    rig.queue.disableKicks();
    expect(ring.usedFlags).toBe(0);
    expect((ring.availEvent - 3) & 0xffff).toBe(0x8000);
    offer(rig, 3, 1);
    popAll(rig);
    expect((ring.availEvent - 3) & 0xffff).toBe(0x8000);
    expect(rig.queue.enableKicks()).toBe(false);
    expect(ring.availEvent).toBe(4);
    offer(rig, 4, 1);
    expect(rig.queue.enableKicks()).toBe(true);
  });

  it('hasAvailable says false only after it asked for a kick', () => {
    const rig = createDeviceRig({ features: { eventIdx: true } });
    rig.driver.ring.availEvent = 0x7777;
    expect(rig.queue.hasAvailable()).toBe(false);
    expect(rig.driver.ring.availEvent).toBe(0);
    offer(rig, 0, 1);
    expect(rig.queue.hasAvailable()).toBe(true);
    expect(rig.queue.hasAvailable()).toBe(true);
  });

  it('enableKicks counts entries that were not popped yet, but not those that undoPop took back', () => {
    for (const eventIdx of [false, true]) {
      const rig = createDeviceRig({ features: { eventIdx } });
      offer(rig, 0, 2);
      const chain = rig.queue.pop()!;
      expect(rig.queue.enableKicks()).toBe(true);
      rig.queue.undoPop(chain);
      expect(rig.queue.enableKicks()).toBe(true);
      for (const taken of popAll(rig).toReversed()) rig.queue.undoPop(taken);
      expect(rig.queue.enableKicks()).toBe(false);
      expect(rig.driver.ring.availEvent).toBe(eventIdx ? 2 : 0);
      offer(rig, 2, 1);
      expect(rig.queue.enableKicks()).toBe(true);
      expect(popAll(rig).map(({ head }) => head)).toEqual([0, 1, 2]);
    }
  });
});
