import { describe, expect, it } from 'vitest';
import { createBufferList } from './buffer-list.ts';
import type { BufferList, DescriptorChain, DeviceQueue } from './contract.ts';
import {
  createDeviceRig,
  createDriverRig,
  createPackedDeviceRig,
  createPackedDriverRig,
  type DeviceRig,
  type DriverRig,
  type PackedDeviceRig,
  type PackedDriverRig,
} from './testing.ts';

const features = { inOrder: true, indirect: true };

const splitDevice = (): DeviceRig => createDeviceRig({ features });
const packedDevice = (): PackedDeviceRig => createPackedDeviceRig({ features });

/** Offers `count` requests of one writable buffer of 16 bytes. */
function offer(rig: DeviceRig | PackedDeviceRig, first: number, count: number): void {
  for (let i = first; i < first + count; i++) {
    const buffer = { address: rig.payload, size: 16, flags: 2 };
    if ('wrap' in rig.driver) rig.driver.makeAvailable(i % 8, buffer);
    else rig.driver.makeAvailable(rig.driver.chain(i % 8, buffer));
  }
}

function popAll(queue: DeviceQueue): DescriptorChain[] {
  const chains: DescriptorChain[] = [];
  for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) chains.push(chain);
  return chains;
}

describe.each([
  ['split §2.7.9', splitDevice],
  ['packed §2.8.8', packedDevice],
])('%s: the device half', (_, createRig) => {
  it('holds back what is pushed too early and uses it when its predecessors are done', () => {
    const rig = createRig();
    offer(rig, 0, 4);
    const chains = popAll(rig.queue);
    for (const [at, expected] of [
      [2, []],
      [1, []],
      [0, [0, 1, 2]],
      [3, [3]],
    ] as const) {
      // Nothing is written in full, so that each chain has an entry of its own.
      rig.queue.push(chains[at]!, at + 1);
      rig.queue.publish();
      expect(rig.driver.takeUsed()).toEqual(expected.map((id) => ({ id, size: id + 1 })));
    }
    expect(rig.queue.inFlightCount).toBe(0);
  });

  it('a chain that is held back is not in flight: it cannot be pushed again, and its mappings have ended', () => {
    const rig = createRig();
    offer(rig, 0, 2);
    const [first, second] = popAll(rig.queue);
    rig.queue.push(second!, 16);
    expect(rig.queue.inFlightCount).toBe(1);
    expect(rig.memory.leaks()).toHaveLength(3 + 1);
    expect(() => rig.queue.push(second!, 16)).toThrow(RangeError);
    rig.queue.push(first!, 16);
    rig.queue.release();
    rig.memory.assertNothingMapped();
  });

  it('release with chains held back leaves nothing mapped', () => {
    const rig = createRig();
    offer(rig, 0, 3);
    const [, second] = popAll(rig.queue);
    rig.queue.push(second!, 1);
    rig.queue.release();
    expect(rig.memory.leaks()).toEqual([]);
  });

  it('undoPop takes back the latest chain; popped again it takes its place', () => {
    const rig = createRig();
    offer(rig, 0, 3);
    const [first, second, third] = popAll(rig.queue);
    rig.queue.push(second!, 1);
    rig.queue.undoPop(third!);
    rig.queue.push(first!, 1);
    rig.queue.push(rig.queue.pop()!, 3);
    rig.queue.publish();
    expect(rig.driver.takeUsed().map(({ id }) => id)).toEqual([0, 1, 2]);
  });
});

describe('batches: one used entry for all that were written in full', () => {
  it('§2.7.9 split: id of the last at the place of the first, and the index moves by all', () => {
    const rig = splitDevice();
    offer(rig, 0, 4);
    const [a, b, c, d] = popAll(rig.queue);
    rig.queue.push(a!, 16);
    rig.queue.push(b!, 16);
    rig.queue.push(c!, 5);
    rig.queue.push(d!, 16);
    rig.queue.publish();
    const { ring } = rig.driver;
    expect(ring.usedIdx).toBe(4);
    expect(ring.usedEntry(0)).toEqual({ id: 2, size: 5 });
    expect([ring.usedEntry(1), ring.usedEntry(2)]).toEqual([
      { id: 0, size: 0 },
      { id: 0, size: 0 },
    ]);
    expect(ring.usedEntry(3)).toEqual({ id: 3, size: 16 });
  });

  it('§2.8.8 packed: id of the last in the first slot of the first', () => {
    const rig = packedDevice();
    rig.driver.makeAvailable(0, { address: rig.payload, size: 4 }, { address: rig.payload, size: 4 });
    offer(rig, 1, 2);
    for (const chain of popAll(rig.queue)) rig.queue.push(chain, chain.writableSize === 0 ? 0 : 7);
    rig.queue.publish();
    const { ring } = rig.driver;
    expect(ring.descriptor(0)).toMatchObject({ id: 1, size: 7 });
    expect(ring.descriptor(3)).toMatchObject({ id: 2, size: 7 });
    expect(rig.queue.position()).toEqual({ available: 0x8004, used: 0x8004 });
  });

  it('an entry that the driver can see already is never replaced', () => {
    const rig = splitDevice();
    offer(rig, 0, 2);
    const [a, b] = popAll(rig.queue);
    rig.queue.push(a!, 16);
    rig.queue.publish();
    rig.queue.push(b!, 16);
    rig.queue.publish();
    expect([rig.driver.ring.usedEntry(0).id, rig.driver.ring.usedEntry(1).id]).toEqual([0, 1]);
  });
});

let place = 0;

/** Where no other request has any. */
function buffers({ payload }: DriverRig | PackedDriverRig, readable: number, writable: number): BufferList {
  const list = createBufferList();
  const at = payload + (place++ % 500) * 128;
  for (let i = 0; i < readable; i++) list.addReadable(at + i * 16, 16);
  for (let i = 0; i < writable; i++) list.addWritable(at + 64 + i * 16, 16);
  return list;
}

/** `next` of all descriptors but the last of a chain in a split ring. */
function linksOf({ device }: DriverRig | PackedDriverRig, first: number, count: number): number[] {
  if ('usedSlot' in device) return [];
  return Array.from({ length: count - 1 }, (_, i) => device.ring.descriptor((first + i) % 8).next);
}

describe.each([
  ['split §2.7.9', () => createDriverRig({ size: 8, features: { inOrder: true } })],
  ['packed §2.8.8', () => createPackedDriverRig({ size: 7, features: { inOrder: true } })],
])('%s: the driver half', (_, createRig) => {
  it('one used entry completes all before it: those were used whole, the last one as the entry says', () => {
    const rig = createRig();
    for (const token of [10, 11, 12]) rig.queue.add(buffers(rig, 1, 1), token);
    rig.queue.publish();
    const ids = rig.device.takeAvailable();
    if ('usedSlot' in rig.device) rig.device.use(ids[2]!, 3, 6);
    else {
      rig.device.ring.setUsedEntry(0, { id: ids[2]!, size: 3 });
      rig.device.ring.usedIdx = 3;
    }
    const came: number[][] = [];
    expect(rig.queue.enableCalls()).toBe(true);
    for (let token = rig.queue.popUsed(); token >= 0; token = rig.queue.popUsed()) {
      came.push([token, rig.queue.usedSize, Number(rig.queue.hasUsed())]);
    }
    expect(came).toEqual([
      [10, 16, 1],
      [11, 16, 1],
      [12, 3, 0],
    ]);
    expect([rig.queue.inFlightCount, rig.queue.freeCount]).toEqual([0, rig.queue.size]);
    expect(rig.close()).toBe(true);
  });

  it('understands a device that writes an entry for each, with and without batches before', () => {
    const rig = createRig();
    for (let round = 0; round < 50; round++) {
      rig.queue.add(buffers(rig, 1, round % 2), 2 * round);
      rig.queue.add(buffers(rig, 1, 1), 2 * round + 1);
      rig.queue.publish();
      const ids = rig.device.takeAvailable();
      for (const id of ids) rig.device.use(id, 1);
      expect([rig.queue.popUsed(), rig.queue.popUsed(), rig.queue.popUsed()]).toEqual([
        2 * round,
        2 * round + 1,
        -1,
      ]);
    }
    expect(rig.queue.violation).toBeUndefined();
    expect(rig.close()).toBe(true);
  });

  it('uses descriptors in ring order, whatever the shape of the requests', () => {
    const rig = createRig();
    let next = 0;
    for (let round = 0; round < 40; round++) {
      const count = 1 + (round % 3);
      rig.queue.add(buffers(rig, 1, count - 1), round);
      rig.queue.publish();
      const [id] = rig.device.takeAvailable();
      expect(id).toBe(next);
      const links = Array.from({ length: count - 1 }, (_each, i) => (next + i + 1) % rig.queue.size);
      expect(linksOf(rig, next, count)).toEqual('usedSlot' in rig.device ? [] : links);
      next = (next + count) % rig.queue.size;
      rig.device.use(id!, 0);
      expect(rig.queue.popUsed()).toBe(round);
    }
    expect(rig.close()).toBe(true);
  });
});

describe('hostile device in order', () => {
  it('§2.7.9 an entry for a request that is beyond the used index', () => {
    const rig = createDriverRig({ features: { inOrder: true } });
    for (const token of [0, 1, 2]) rig.queue.add(buffers(rig, 0, 1), token);
    rig.queue.publish();
    const ids = rig.device.takeAvailable();
    rig.device.ring.setUsedEntry(0, { id: ids[2]!, size: 1 });
    rig.device.ring.usedIdx = 2;
    expect(rig.queue.popUsed()).toBe(-1);
    expect(rig.queue.violation).toMatchObject({ section: '2.7.8' });
    expect(rig.queue.violation?.message).toContain('beyond the used index');
    expect(rig.close()).toBe(true);
  });

  it('an index that tells of more than the last entry names: the next entry is read for the rest', () => {
    const rig = createDriverRig({ features: { inOrder: true } });
    for (const token of [0, 1, 2]) rig.queue.add(buffers(rig, 0, 1), token);
    rig.queue.publish();
    const ids = rig.device.takeAvailable();
    rig.device.ring.setUsedEntry(0, { id: ids[1]!, size: 1 });
    rig.device.ring.setUsedEntry(2, { id: 7, size: 1 });
    rig.device.ring.usedIdx = 3;
    expect([rig.queue.popUsed(), rig.queue.popUsed(), rig.queue.popUsed()]).toEqual([0, 1, -1]);
    expect(rig.queue.violation).toMatchObject({ section: '2.7.8' });
    expect(rig.close()).toBe(true);
  });
});
