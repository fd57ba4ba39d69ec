import { describe, expect, it } from 'vitest';
import type { AioWorld } from './world.ts';

/** Part of `describeAioContext`. */
export function describeTimers(world: AioWorld): void {
  describe('timers', () => {
    it('run once, not before their time, in the order of their deadlines', async () => {
      const order: string[] = [];
      const start = world.context.now();
      const ends: number[] = [];
      const timer = (label: string) =>
        world.context.createTimer(() => {
          order.push(label);
          ends.push(world.context.now() - start);
        });
      const [slow, quick] = [timer('slow'), timer('quick')];
      slow.arm(6);
      quick.arm(2);
      expect([slow.armed, quick.armed]).toEqual([true, true]);
      await world.run(world.context, () => order.length === 2);
      expect(order).toEqual(['quick', 'slow']);
      expect(ends[0]).toBeGreaterThanOrEqual(2);
      expect(ends[1]).toBeGreaterThanOrEqual(6);
      expect([slow.armed, quick.armed]).toEqual([false, false]);
      expect(world.context.statistics.timerRuns).toBe(2);
    });

    it('arming again moves the deadline, disarming removes it', async () => {
      const order: string[] = [];
      const moved = world.context.createTimer(() => void order.push('moved'));
      const removed = world.context.createTimer(() => void order.push('removed'));
      const last = world.context.createTimer(() => void order.push('last'));
      moved.arm(1);
      moved.arm(3);
      removed.arm(1);
      removed.disarm();
      removed.disarm();
      last.arm(4);
      await world.run(world.context, () => order.length === 2);
      expect(order).toEqual(['moved', 'last']);
    });

    it('one that arms itself with no delay lets others run', async () => {
      let runs = 0;
      let otherRan = false;
      const other = world.context.createBottomHalf(() => (otherRan = true));
      const timer = world.context.createTimer(() => {
        if (++runs === 1) other.schedule();
        if (!otherRan && runs < 1000) timer.arm(0);
      });
      timer.arm(0);
      await world.run(world.context, () => otherRan && !timer.armed);
      expect(runs).toBeLessThan(1000);
    });

    it('a delay that is no number of milliseconds is a RangeError', () => {
      const timer = world.context.createTimer(() => {});
      for (const delay of [-1, NaN, Infinity]) expect(() => timer.arm(delay)).toThrow(RangeError);
    });
  });
}
