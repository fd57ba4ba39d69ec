import { describe, expect, it } from 'vitest';
import type { AioWorld } from './world.ts';

/** Part of `describeAioContext`. */
export function describeBottomHalves(world: AioWorld): void {
  describe('bottom halves', () => {
    it('run later, in the order of their scheduling', async () => {
      const order: string[] = [];
      const halves = ['a', 'b', 'c'].map((label) =>
        world.context.createBottomHalf(() => void order.push(label)),
      );
      for (const index of [2, 0, 1]) halves[index]!.schedule();
      order.push('scheduled');
      await world.run(world.context, () => order.length === 4);
      expect(order).toEqual(['scheduled', 'c', 'a', 'b']);
      expect(world.context.statistics.bottomHalfRuns).toBe(3);
    });

    it('schedule is idempotent until the run', async () => {
      let runs = 0;
      const half = world.context.createBottomHalf(() => void runs++);
      half.schedule();
      half.schedule();
      half.cancel();
      expect(world.context.leaks()).toEqual([]);
      half.schedule();
      half.schedule();
      await world.run(world.context, () => runs === 1);
      await world.settle();
      expect(runs).toBe(1);
      half.schedule();
      await world.run(world.context, () => runs === 2);
    });

    it('one that schedules itself runs in the next turn, after handlers and microtasks', async () => {
      const order: string[] = [];
      const half = world.context.createBottomHalf(() => {
        order.push('half');
        queueMicrotask(() => order.push('microtask'));
        if (order.length < 4) half.schedule();
      });
      half.schedule();
      await world.run(world.context, () => order.length === 6);
      expect(order).toEqual(['half', 'microtask', 'half', 'microtask', 'half', 'microtask']);
    });

    it('one that is scheduled by another runs after those that were scheduled before', async () => {
      const order: string[] = [];
      const late = world.context.createBottomHalf(() => void order.push('late'));
      const first = world.context.createBottomHalf(() => {
        order.push('first');
        late.schedule();
      });
      const second = world.context.createBottomHalf(() => void order.push('second'));
      first.schedule();
      second.schedule();
      await world.run(world.context, () => order.length === 3);
      expect(order).toEqual(['first', 'second', 'late']);
    });

    it('cancel prevents the run, also from a bottom half of the same turn; scheduling again is possible', async () => {
      const order: string[] = [];
      const victim = world.context.createBottomHalf(() => void order.push('victim'));
      const canceller = world.context.createBottomHalf(() => {
        order.push('canceller');
        victim.cancel();
      });
      victim.schedule();
      victim.cancel();
      victim.cancel();
      canceller.schedule();
      victim.schedule();
      await world.settle();
      expect(order).toEqual(['canceller']);
      const again = world.context.createBottomHalf(() => {
        victim.cancel();
        victim.schedule();
      });
      again.schedule();
      victim.schedule();
      await world.settle();
      expect(order).toEqual(['canceller', 'victim']);
    });

    it('dispose cancels', async () => {
      let runs = 0;
      const half = world.context.createBottomHalf(() => void runs++);
      half.schedule();
      half[Symbol.dispose]();
      await world.settle();
      expect(runs).toBe(0);
    });
  });
}
