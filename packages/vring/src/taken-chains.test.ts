import { VRING_DESC_F_NEXT, VRING_DESC_F_WRITE } from '@virtlab/abi/virtio-ring';
import { IdentityDeviceMemory, IdentityDmaMapper, memoryRegion } from '@virtlab/guest-memory';
import { describe, expect, it } from 'vitest';
import { createBufferList } from './buffer-list.ts';
import { type DeviceQueue, POSITION_TAKEN, type QueuePosition, type TakenChain } from './contract.ts';
import { createDeviceQueue } from './device-queue.ts';
import { createDriverQueue } from './driver-queue.ts';

const SIZE = 8;

/** A driver with a device half that was given up, and what becomes of the ring. */
function rig(packed: boolean, inOrder = false) {
  const region = memoryRegion(new ArrayBuffer(1 << 16));
  const dma = new IdentityDmaMapper(region);
  const memory = new IdentityDeviceMemory([{ guestAddress: 0n, region }]);
  const features = { packed, indirect: false, eventIdx: false, inOrder };
  const driver = createDriverQueue({ size: SIZE, dma, features });
  const payload = dma.allocate(64);
  const list = createBufferList();
  list.addReadable(payload, 8);
  list.addWritable(payload + 8, 8);
  const create = (start?: QueuePosition, takenChains?: readonly TakenChain[]) =>
    createDeviceQueue({
      addresses: driver.addresses,
      memory,
      features,
      ...(start === undefined ? {} : { start }),
      ...(takenChains === undefined ? {} : { takenChains }),
    });
  const attach = (start?: QueuePosition, takenChains?: readonly TakenChain[]): DeviceQueue => {
    const made = create(start, takenChains);
    if (!made.ok) throw new Error(made.violation.message);
    return made.queue;
  };
  /** As whoever wrote it down would give a request back. */
  const kept = (head: number): TakenChain =>
    packed
      ? {
          head,
          descriptors: [
            { addressLow: payload, addressHigh: 0, size: 8, flags: VRING_DESC_F_NEXT },
            { addressLow: payload + 8, addressHigh: 0, size: 8, flags: VRING_DESC_F_WRITE },
          ],
        }
      : { head };
  return { driver, memory, list, create, attach, kept };
}

describe.each([
  ['split', false],
  ['packed', true],
] as const)('requests that a predecessor had taken: %s', (_, packed) => {
  it('come first, in the order given, and end as any other', () => {
    const { driver, memory, list, attach, kept } = rig(packed);
    const first = attach();
    for (const token of [1, 2, 3]) driver.add(list, token);
    driver.publish();
    const heads = [first.pop()!, first.pop()!, first.pop()!];
    const [, second] = heads;
    const names = heads.map(({ head }) => head);
    first.push(second!, 8);
    first.publish();
    const start = first.position();
    first.release();

    const next = attach(start, [kept(names[2]!), kept(names[0]!)]);
    driver.add(list, 4);
    driver.publish();
    expect(next.hasAvailable()).toBe(true);
    const third = next.pop()!;
    expect([third.head, third.position, third.readableSize, third.writableSize]).toEqual([
      names[2],
      POSITION_TAKEN,
      8,
      8,
    ]);
    next.undoPop(third);
    const again = next.pop()!;
    expect(again.head).toBe(names[2]);
    const oldest = next.pop()!;
    expect(oldest.head).toBe(names[0]);
    const fresh = next.pop()!;
    expect(fresh.position).not.toBe(POSITION_TAKEN);
    expect(next.pop()).toBeUndefined();
    for (const chain of [fresh, oldest, again]) next.push(chain, 8);
    next.publish();
    expect([driver.popUsed(), driver.popUsed(), driver.popUsed(), driver.popUsed()]).toEqual([2, 4, 1, 3]);
    expect(next.position().available).toBe(next.position().used);
    next.release();
    expect([memory.mappedSegmentCount, memory.mappedAreaCount]).toEqual([0, 0]);
    expect(driver.violation ?? next.violation).toBeUndefined();
  });

  it.each([
    ['names one twice', (kept: (head: number) => TakenChain) => [kept(0), kept(0)]],
    ['names none of the ring', (kept: (head: number) => TakenChain) => [kept(0xffff)]],
  ])('whoever %s breaks the queue and nothing else', (_what, chains) => {
    const { driver, memory, list, attach, kept } = rig(packed);
    const first = attach();
    driver.add(list, 1);
    driver.add(list, 2);
    driver.publish();
    first.pop();
    first.pop();
    const start = first.position();
    first.release();
    const next = attach(start, chains(kept));
    const popped = [next.pop(), next.pop(), next.pop()].filter((chain) => chain !== undefined);
    expect(popped.length).toBeLessThan(2);
    expect(next.violation).toBeDefined();
    next.release();
    expect(memory.mappedSegmentCount).toBe(0);
  });

  it('there are no more of them than lie between the indices, none of a new ring, and none in order', () => {
    const { create, kept } = rig(packed);
    expect(create(undefined, [kept(0)]).ok).toBe(false);
    const fresh = packed ? { available: 0x8000, used: 0x8000 } : { available: 0, used: 0 };
    expect(create(fresh, [kept(0)]).ok).toBe(false);
    const one = { available: fresh.available + (packed ? 2 : 1), used: fresh.used };
    expect(create(one, [kept(0)]).ok).toBe(true);
    expect(rig(packed, true).create(one, [kept(0)]).ok).toBe(false);
  });
});

it('packed: descriptors that were kept are checked as those of the ring are', () => {
  const outside = { addressLow: 0, addressHigh: 1 << 30, size: 8, flags: 0 };
  const { attach } = rig(true);
  const queue = attach({ available: 0x8001, used: 0x8000 }, [{ head: 0, descriptors: [outside] }]);
  expect(queue.pop()).toBeUndefined();
  expect(queue.violation?.section).toBe('2.8.4');
  queue.release();
});
