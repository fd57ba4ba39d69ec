import { describe, expect, it } from 'vitest';
import type { AioWorld } from './world.ts';

/** Part of `describeAioContext`. */
export function describeLife(world: AioWorld): void {
  describe('life', () => {
    it('leaks names what is registered', async () => {
      expect(world.context.leaks()).toEqual([]);
      const notifier = world.context.createEventNotifier();
      const handler = world.context.addHandler(notifier, { onReady: () => {} });
      const poller = world.context.addPoller({ poll: () => false });
      const timer = world.context.createTimer(() => {});
      const half = world.context.createBottomHalf(() => {});
      timer.arm(1000);
      half.schedule();
      expect(world.context.leaks()).toHaveLength(4);
      for (const thing of [handler, poller, timer, half, notifier]) thing[Symbol.dispose]();
      expect(world.context.leaks()).toEqual([]);
      await world.settle();
    });

    it('dispose drops everything; nothing runs afterwards', async () => {
      const other = world.create();
      let runs = 0;
      const count = (): void => void runs++;
      const half = other.createBottomHalf(count);
      const timer = other.createTimer(count);
      const notifier = other.createEventNotifier();
      other.addHandler(notifier, { onReady: count });
      other.addPoller({ poll: () => runs++ < 0 });
      half.schedule();
      timer.arm(1);
      notifier.set();
      other[Symbol.dispose]();
      other[Symbol.dispose]();
      const after = runs;
      half.schedule();
      notifier.set();
      let passed = false;
      const fence = world.context.createTimer(() => (passed = true));
      fence.arm(3);
      await world.run(world.context, () => passed);
      expect(runs).toBe(after);
      expect(other.leaks().filter((leak) => !leak.includes('bottom'))).toEqual([]);
    });

    it('an idle context sleeps and stays asleep', async () => {
      await world.settle();
      await world.run(world.context, () => world.context.statistics.sleeps > 0);
      const { sleeps } = world.context.statistics;
      let passed = false;
      const other = world.create();
      const fence = other.createTimer(() => (passed = true));
      fence.arm(2);
      await world.run(other, () => passed);
      expect(world.context.statistics.sleeps).toBe(sleeps);
      other[Symbol.dispose]();
    });
  });
}
