import { IdentityDeviceMemory, IdentityDmaMapper, memoryRegion } from '@virtlab/guest-memory';
import { describe, expect, it } from 'vitest';
import { createBufferList } from './buffer-list.ts';
import type { DeviceQueue, DriverQueue, QueuePosition, RingFeatures } from './contract.ts';
import { createDeviceQueue } from './device-queue.ts';
import { createDriverQueue } from './driver-queue.ts';

interface Pair {
  readonly driver: DriverQueue;
  readonly memory: IdentityDeviceMemory;
  /** A device half over the driver's ring. */
  attach(start?: QueuePosition): DeviceQueue;
  refusal(start: QueuePosition): string | undefined;
  send(token: number): void;
}

function pair(features: RingFeatures, size: number): Pair {
  const region = memoryRegion(new ArrayBuffer(1 << 21));
  const dma = new IdentityDmaMapper(region);
  const memory = new IdentityDeviceMemory([{ guestAddress: 0n, region }]);
  const driver = createDriverQueue({ size, dma, features });
  const payload = dma.allocate(64);
  const create = (start?: QueuePosition) =>
    createDeviceQueue({
      addresses: driver.addresses,
      memory,
      features,
      ...(start === undefined ? {} : { start }),
    });
  return {
    driver,
    memory,
    attach: (start) => {
      const made = create(start);
      if (!made.ok) throw new Error(made.violation.message);
      return made.queue;
    },
    refusal: (start) => {
      const made = create(start);
      return made.ok ? undefined : made.violation.section;
    },
    send: (token) => {
      const list = createBufferList();
      list.addReadable(payload, 8);
      list.addWritable(payload + 8, 8);
      expect(driver.add(list, token)).toBe(0);
      driver.publish();
    },
  };
}

function serve(device: DeviceQueue): number {
  let count = 0;
  for (let chain = device.pop(); chain !== undefined; chain = device.pop()) {
    device.push(chain, 8);
    count++;
  }
  device.publish();
  return count;
}

const formats = [
  ['split', { indirect: false, eventIdx: false }, 8],
  ['split, event index', { indirect: false, eventIdx: true }, 8],
  ['split, in order', { indirect: true, eventIdx: true, inOrder: true }, 8],
  ['packed', { packed: true, indirect: false, eventIdx: false }, 7],
  ['packed, event index', { packed: true, indirect: false, eventIdx: true }, 7],
  ['packed, in order', { packed: true, indirect: true, eventIdx: true, inOrder: true }, 7],
] as const;

describe.each(formats)('taking over a ring in use: %s', (_, features, size) => {
  it('a successor goes on where position says, again and again over the wrap', () => {
    const rig = pair(features, size);
    let device = rig.attach();
    for (let round = 0; round < 40; round++) {
      for (let token = 0; token < 2; token++) rig.send(token);
      if (round % 3 === 0) device.disableKicks();
      expect(serve(device)).toBe(2);
      const start = device.position();
      expect(start.available).toBe(start.used);
      rig.send(7);
      device.release();
      device = rig.attach(start);
      expect(serve(device)).toBe(1);
      expect([rig.driver.popUsed(), rig.driver.popUsed(), rig.driver.popUsed()]).toEqual([0, 1, 7]);
      expect(rig.driver.popUsed()).toBe(-1);
    }
    expect(rig.driver.violation ?? device.violation).toBeUndefined();
  });

  it('kicks are wanted after a predecessor wanted none', () => {
    const rig = pair(features, size);
    const first = rig.attach();
    first.pop();
    first.disableKicks();
    const start = first.position();
    first.release();
    const second = rig.attach(start);
    expect(second.pop()).toBeUndefined();
    rig.send(1);
    expect(rig.driver.needsKick()).toBe(true);
  });

  it('chains that were popped and not pushed are popped again from the used position', () => {
    const rig = pair(features, size);
    const first = rig.attach();
    rig.send(1);
    rig.send(2);
    first.push(first.pop()!, 8);
    first.publish();
    first.pop();
    const { available, used } = first.position();
    expect(available).not.toBe(used);
    first.release();
    const second = rig.attach({ available: used, used });
    expect(serve(second)).toBe(1);
    expect([rig.driver.popUsed(), rig.driver.popUsed(), rig.driver.popUsed()]).toEqual([1, 2, -1]);
  });

  it('undoPop moves the position back; what is staged and not published does not move it', () => {
    const rig = pair(features, size);
    const device = rig.attach();
    const before = device.position();
    rig.send(1);
    device.undoPop(device.pop()!);
    expect(device.position()).toEqual(before);
    device.push(device.pop()!, 8);
    expect(device.position().used).toBe(before.used);
    device.publish();
    expect(device.position().used).toBe(device.position().available);
  });
});

describe('positions that cannot be are answered as values', () => {
  it('split: words over 16 bits, more in flight than the queue holds; in order anything in flight', () => {
    const rig = pair({ indirect: false, eventIdx: false }, 8);
    for (const start of [
      { available: 0x1_0000, used: 0 },
      { available: -1, used: 0 },
      { available: 0.5, used: 0 },
      { available: 9, used: 0 },
      { available: 0, used: 1 },
    ])
      expect(rig.refusal(start)).toBe('2.7');
    expect(rig.refusal({ available: 4, used: 0xfffc })).toBeUndefined();
    const ordered = pair({ indirect: false, eventIdx: false, inOrder: true }, 8);
    expect(ordered.refusal({ available: 1, used: 0 })).toBe('2.7');
  });

  it('packed: slots outside the ring, more than a lap in flight', () => {
    const rig = pair({ packed: true, indirect: false, eventIdx: false }, 5);
    for (const [available, used] of [
      [5, 0],
      [0, 0x8005],
      [0x1_0000, 0],
      [0x8001, 0x8002],
      [0x0001, 0x8000],
    ] as const)
      expect(rig.refusal({ available, used })).toBe('2.8');
    expect(rig.refusal({ available: 0x0002, used: 0x8002 })).toBeUndefined();
    expect(rig.refusal({ available: 0x8003, used: 0x8001 })).toBeUndefined();
    const ordered = pair({ packed: true, indirect: false, eventIdx: false, inOrder: true }, 5);
    expect(ordered.refusal({ available: 0x8001, used: 0x8000 })).toBe('2.8');
  });
});

describe('§2.9 kickData: where the next request goes', () => {
  it('split: the available index that was published', () => {
    const { driver, attach, send } = pair({ indirect: false, eventIdx: false }, 4);
    const device = attach();
    expect(driver.kickData).toBe(0);
    const wrong: number[] = [];
    for (let i = 1; i <= 70_000; i++) {
      send(0);
      if (driver.kickData !== (i & 0xffff)) wrong.push(i);
      serve(device);
      driver.popUsed();
    }
    expect(wrong).toEqual([]);
    const list = createBufferList();
    list.addReadable(0, 1);
    driver.add(list, 1);
    expect(driver.kickData).toBe(70_000 & 0xffff);
    driver.needsKick();
    expect(driver.kickData).toBe(70_001 & 0xffff);
  });

  it('packed: the slot in 15 bits and the wrap counter in bit 15', () => {
    const { driver, attach, send } = pair({ packed: true, indirect: false, eventIdx: false }, 5);
    const device = attach();
    const seen = [driver.kickData];
    for (let i = 0; i < 5; i++) {
      send(0);
      seen.push(driver.kickData);
      serve(device);
      driver.popUsed();
    }
    expect(seen).toEqual([0x8000, 0x8002, 0x8004, 0x0001, 0x0003, 0x8000]);
  });
});
