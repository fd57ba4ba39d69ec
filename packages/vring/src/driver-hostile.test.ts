import { VRING_DESC_F_NEXT } from '@virtlab/abi/virtio-ring';
import { describe, expect, it } from 'vitest';
import { createBufferList } from './buffer-list.ts';
import { ADD_BROKEN } from './contract.ts';
import { createDriverRig, type DriverRig, type DriverRigOptions } from './testing.ts';

/** A rig with `count` published requests of one writable buffer of 16 bytes; token and place go up from 0. */
function published(count: number, options: DriverRigOptions = {}): { rig: DriverRig; heads: number[] } {
  const rig = createDriverRig(options);
  add(rig, 0, count);
  rig.queue.publish();
  return { rig, heads: rig.device.takeAvailable() };
}

function add({ queue, payload }: DriverRig, first: number, count: number): void {
  for (let token = first; token < first + count; token++) {
    const list = createBufferList();
    list.addWritable(payload + token * 16, 16);
    expect(queue.add(list, token)).toBe(0);
  }
}

/**
 * What is missing of a queue that broke as it should: with these words, giving and taking nothing more, and able to take
 * its memory back. Closes the rig.
 */
function missing(rig: DriverRig, ...words: readonly string[]): string[] {
  const { queue } = rig;
  const missed: string[] = [];
  const want = (what: string, held: boolean): void => {
    if (!held) missed.push(what);
  };
  want('popUsed gives nothing', queue.popUsed() === -1);
  const { violation } = queue;
  want(`section 2.7.8, not ${violation?.section}`, violation?.section === '2.7.8');
  for (const word of words)
    want(`"${word}" in "${violation?.message}"`, violation?.message.includes(word) === true);
  want('popUsed stays empty', queue.popUsed() === -1 && !queue.hasUsed() && !queue.enableCalls());
  want('no kick', !queue.needsKick());
  const list = createBufferList();
  list.addReadable(rig.payload, 1);
  want('add is refused', queue.add(list, 99) === ADD_BROKEN);
  want('everything taken back', rig.close());
  return missed;
}

describe('hostile device', () => {
  it('case 30 §2.7.8 used id outside the descriptor table', () => {
    for (const id of [8, 0x1_0000, 0xffff_ffff]) {
      const { rig } = published(2);
      rig.device.use(id, 0);
      expect(missing(rig, `descriptor 0x${id.toString(16)}`, 'queue of 0x8')).toEqual([]);
    }
  });

  it('case 31 §2.7.8 used id that heads nothing, or the middle of a chain', () => {
    const { rig } = published(1);
    rig.device.use(5, 0);
    expect(missing(rig, 'descriptor 0x5', 'heads no request')).toEqual([]);
    const chained = createDriverRig();
    const list = createBufferList();
    list.addReadable(chained.payload, 4);
    list.addReadable(chained.payload + 4, 4);
    chained.queue.add(list, 1);
    chained.queue.publish();
    const [head] = chained.device.takeAvailable();
    chained.device.use(chained.device.ring.descriptor(head!).next, 0);
    expect(missing(chained, 'heads no request')).toEqual([]);
  });

  it('case 31 §2.7.8 used id returned twice', () => {
    const { rig, heads } = published(2);
    rig.device.use(heads[0]!, 0);
    rig.device.use(heads[0]!, 0);
    expect(rig.queue.popUsed()).toBe(0);
    expect(missing(rig, `descriptor 0x${heads[0]!.toString(16)}`)).toEqual([]);
  });

  it('case 31 §2.7.8 used id of a request that is staged but not published', () => {
    const { rig } = published(1);
    add(rig, 1, 1);
    const staged = rig.device.ring.availableEntry(1);
    rig.device.use(staged, 0);
    expect(missing(rig, `descriptor 0x${staged.toString(16)}`, 'that the device has')).toEqual([]);
  });

  it('case 32 §2.7.8.2 a written size over what is writable is clamped and counted', () => {
    const { rig, heads } = published(3);
    rig.device.use(heads[0]!, 17);
    rig.device.use(heads[1]!, 0xffff_ffff);
    rig.device.use(heads[2]!, 16);
    expect([rig.queue.popUsed(), rig.queue.usedSize]).toEqual([0, 16]);
    expect([rig.queue.popUsed(), rig.queue.usedSize]).toEqual([1, 16]);
    expect([rig.queue.popUsed(), rig.queue.usedSize]).toEqual([2, 16]);
    expect(rig.queue.clampedCount).toBe(2);
    expect(rig.queue.violation).toBeUndefined();
    expect(rig.close()).toBe(true);
  });

  it('case 32 a request without a writable part gives 0', () => {
    const rig = createDriverRig();
    const list = createBufferList();
    list.addReadable(rig.payload, 4);
    rig.queue.add(list, 1);
    rig.queue.publish();
    rig.device.use(rig.device.takeAvailable()[0]!, 1);
    expect([rig.queue.popUsed(), rig.queue.usedSize, rig.queue.clampedCount]).toEqual([1, 0, 1]);
    expect(rig.close()).toBe(true);
  });

  it('case 33 §2.7.8 used index ahead of what was published', () => {
    for (const jump of [3, 9, 0x8000, 0xffff]) {
      const { rig } = published(2);
      add(rig, 2, 3);
      rig.device.ring.usedIdx = jump;
      expect(missing(rig, `moved to 0x${jump.toString(16)}`, '0x2 requests published')).toEqual([]);
    }
  });

  it('case 33 §2.7.8 used index moved back, past what was popped and between that and what was seen', () => {
    const { rig, heads } = published(3);
    for (const head of heads) rig.device.use(head, 0);
    expect([rig.queue.popUsed(), rig.queue.popUsed()]).toEqual([0, 1]);
    rig.device.ring.usedIdx = 2;
    expect(rig.queue.enableCalls()).toBe(false);
    expect(rig.queue.violation?.message).toContain('last seen 0x3');
    expect(rig.close()).toBe(true);
    const other = published(1);
    other.rig.device.use(other.heads[0]!, 0);
    expect(other.rig.queue.popUsed()).toBe(0);
    other.rig.device.ring.usedIdx = 0;
    expect(missing(other.rig, 'moved to 0x0')).toEqual([]);
  });

  it('case 34 a used entry rewritten after the index was seen is checked as it is when it is read', () => {
    const { rig, heads } = published(2);
    rig.device.use(heads[0]!, 1);
    expect(rig.queue.hasUsed()).toBe(true);
    rig.device.ring.setUsedEntry(0, { id: heads[1]!, size: 4 });
    expect([rig.queue.popUsed(), rig.queue.usedSize]).toEqual([1, 4]);
    expect(rig.close()).toBe(true);
  });

  it('case 35 any value of avail_event and used.flags leaves the queue working', () => {
    for (const eventIdx of [false, true]) {
      const { rig } = published(1, { features: { eventIdx } });
      for (const wild of [0xffff, 0x8000, 0x7fff, 1]) {
        rig.device.ring.availEvent = wild;
        rig.device.ring.usedFlags = wild;
        add(rig, 1 + (wild & 3), 1);
        expect(typeof rig.queue.needsKick()).toBe('boolean');
        for (const head of rig.device.takeAvailable()) rig.device.use(head, 0);
        while (rig.queue.popUsed() >= 0);
        rig.queue.disableCalls();
        rig.queue.enableCalls();
      }
      expect(rig.queue.violation).toBeUndefined();
    }
  });

  it('case 39 descriptors, tables and the available ring rewritten by the device change nothing', () => {
    for (const indirect of [false, true]) {
      const rig = createDriverRig({ size: 4, features: { indirect } });
      for (let round = 0; round < 10; round++) {
        const list = createBufferList();
        list.addReadable(rig.payload, 8);
        list.addWritable(rig.payload + 16, 8);
        list.addWritable(rig.payload + 32, 8);
        expect(rig.queue.add(list, round)).toBe(0);
        rig.queue.publish();
        const [head] = rig.device.takeAvailable();
        const { ring } = rig.device;
        const named = ring.descriptor(head!);
        const rubbish = { address: 0xdead_beefn, size: 0xffff_ffff, flags: VRING_DESC_F_NEXT, next: head! };
        if (indirect) for (let i = 0n; i < 3n; i++) ring.writeDescriptor(named.address + i * 16n, rubbish);
        for (let i = 0; i < 4; i++) ring.setDescriptor(i, rubbish);
        for (let i = 0; i < 4; i++) ring.setAvailableEntry(i, 0xffff);
        ring.availIdx = 0x7777;
        rig.device.use(head!, 8);
        expect(rig.queue.popUsed()).toBe(round);
        expect(rig.queue.freeCount).toBe(4);
        ring.availIdx = (round + 1) & 0xffff;
      }
      expect(rig.close()).toBe(true);
    }
  });
});
