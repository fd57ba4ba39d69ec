import { createBufferList } from './buffer-list.ts';
import { describe, expect, it } from 'vitest';
import type { BufferList } from './contract.ts';
import { type DriverRig, createDriverRig, createPackedDriverRig } from './testing.ts';
import { ScriptedDevice } from './testing/scripted-device.ts';

function one({ payload }: Pick<DriverRig, 'payload'>, at: number): BufferList {
  const list = createBufferList();
  list.addWritable(payload + at * 16, 16);
  return list;
}

function publish(rig: DriverRig, ...tokens: readonly number[]): void {
  for (const token of tokens) expect(rig.queue.add(one(rig, token), token)).toBe(0);
  rig.queue.publish();
}

/** The device that took over from `position` on: what it finds, as tokens. */
function serveRest(rig: DriverRig, available: number): number[] {
  const fresh = new ScriptedDevice(rig.device.ring, available);
  for (const head of fresh.takeAvailable()) fresh.use(head, 16);
  const tokens: number[] = [];
  for (let token = rig.queue.popUsed(); token >= 0; token = rig.queue.popUsed()) tokens.push(token);
  return tokens;
}

describe('driver half: another device takes over', () => {
  it('what was published and is not used is offered again, whatever order the device before worked in', () => {
    const rig = createDriverRig();
    // Laps first, so that old requests have lost their places in the available ring.
    publish(rig, 0, 1, 2, 3);
    const [first, second, third, fourth] = rig.device.takeAvailable();
    for (let lap = 0; lap < 20; lap += 1) {
      publish(rig, 10 + lap);
      rig.device.use(rig.device.takeAvailable()[0]!, 16);
      expect(rig.queue.popUsed()).toBe(10 + lap);
    }
    rig.device.use(third!, 16);
    publish(rig, 4, 5);
    const start = rig.queue.handOver(true)!;
    expect(start).toEqual({ available: 21, used: 21 });
    expect([first, second, fourth].every((head) => head !== undefined)).toBe(true);
    // Used before the death and not seen yet, then the rest in the order of publication.
    expect(serveRest(rig, start.available)).toEqual([2, 0, 1, 3, 4, 5]);
    expect(rig.queue.inFlightCount).toBe(0);
    expect(rig.close()).toBe(true);
  });

  it('staged requests stay staged, and follow when published', () => {
    const rig = createDriverRig();
    publish(rig, 0, 1);
    rig.queue.add(one(rig, 2), 2);
    rig.device.use(rig.device.takeAvailable()[1]!, 16);
    const start = rig.queue.handOver(true)!;
    const fresh = new ScriptedDevice(rig.device.ring, start.available);
    expect(fresh.takeAvailable()).toHaveLength(1);
    rig.queue.publish();
    expect(fresh.takeAvailable()).toHaveLength(1);
    expect(rig.close()).toBe(true);
  });

  it('a device that knows what it had begun starts at the used index, entries as they were', () => {
    const rig = createDriverRig();
    publish(rig, 0, 1, 2);
    const heads = rig.device.takeAvailable();
    rig.device.use(heads[2]!, 16);
    expect(rig.queue.handOver(false)).toEqual({ available: 1, used: 1 });
    const entries = [0, 1, 2].map((position) => rig.device.ring.availableEntry(position));
    expect(entries).toEqual(heads);
    expect(rig.close()).toBe(true);
  });

  it('§2.7.8 a used ring that names what was not in flight breaks the queue instead', () => {
    const rig = createDriverRig();
    publish(rig, 0, 1);
    rig.device.use(7, 16);
    expect(rig.queue.handOver(true)).toBeUndefined();
    expect(rig.queue.violation?.section).toBe('2.7.8');
    expect(rig.queue.handOver(true)).toBeUndefined();
    expect(rig.close()).toBe(true);
  });

  it('§2.7.8 so does a used index beyond what was published', () => {
    const rig = createDriverRig();
    publish(rig, 0);
    rig.device.ring.usedIdx = 2;
    expect(rig.queue.handOver(true)).toBeUndefined();
    expect(rig.queue.violation?.section).toBe('2.7.8');
    expect(rig.close()).toBe(true);
  });

  it('packed: an idle queue goes on where it is; requests in flight need a device that knows them', () => {
    const rig = createPackedDriverRig();
    rig.queue.add(one(rig, 0), 0);
    rig.queue.publish();
    expect(rig.queue.handOver(true)).toBeUndefined();
    expect(rig.queue.handOver(false)).toEqual({ available: 0x8001, used: 0x8000 });
    expect(rig.queue.violation).toBeUndefined();
    expect(rig.close()).toBe(true);
  });
});
