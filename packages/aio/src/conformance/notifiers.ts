import { describe, expect, it } from 'vitest';
import type { AioWorld } from './world.ts';

/** Part of `describeAioContext`. */
export function describeNotifiers(world: AioWorld): void {
  describe('notifiers', () => {
    it('sets coalesce into one run of the handler, which comes later', async () => {
      using notifier = world.context.createEventNotifier();
      let runs = 0;
      using _ = world.context.addHandler(notifier, {
        onReady: () => void (runs += Number(notifier.testAndClear())),
      });
      for (let i = 0; i < 10; i++) notifier.set();
      expect(runs).toBe(0);
      await world.run(world.context, () => runs > 0);
      await world.settle();
      expect(runs).toBeGreaterThanOrEqual(1);
      expect(world.capabilities.exactNotifiers ? runs : 1).toBe(1);
    });

    it('each set after a run causes another run', async () => {
      using notifier = world.context.createEventNotifier();
      let runs = 0;
      using _ = world.context.addHandler(notifier, { onReady: () => void runs++ });
      for (let round = 1; round <= 5; round++) {
        const before = runs;
        notifier.set();
        await world.run(world.context, () => runs > before);
      }
      expect(world.context.statistics.handlerRuns).toBe(runs);
    });

    it.runIf(world.capabilities.exactNotifiers)(
      'testAndClear answers true once for any number of sets',
      () => {
        using notifier = world.context.createEventNotifier();
        expect(notifier.testAndClear()).toBe(false);
        notifier.set();
        notifier.set();
        expect(notifier.testAndClear()).toBe(true);
        expect(notifier.testAndClear()).toBe(false);
      },
    );

    it('a set before the handler was added is not lost', async () => {
      using notifier = world.context.createEventNotifier();
      let runs = 0;
      notifier.set();
      using _ = world.context.addHandler(notifier, { onReady: () => void runs++ });
      await world.run(world.context, () => runs > 0);
      expect(runs).toBeGreaterThan(0);
    });

    it('a handler that sets its own notifier runs again in a later turn', async () => {
      using notifier = world.context.createEventNotifier();
      let runs = 0;
      using _ = world.context.addHandler(notifier, {
        onReady() {
          if (++runs < 3) notifier.set();
        },
      });
      notifier.set();
      await world.run(world.context, () => runs >= 3);
      expect(runs).toBeGreaterThanOrEqual(3);
    });

    it('a removed handler does not run, whatever is on its way', async () => {
      using notifier = world.context.createEventNotifier();
      let runs = 0;
      const handler = world.context.addHandler(notifier, { onReady: () => void runs++ });
      notifier.set();
      handler[Symbol.dispose]();
      handler[Symbol.dispose]();
      await world.settle();
      expect(runs).toBe(0);
    });

    it('a notifier of another context, or one with a handler, is refused', () => {
      const other = world.create();
      using foreign = other.createEventNotifier();
      expect(() => world.context.addHandler(foreign, { onReady: () => {} })).toThrow(TypeError);
      using own = world.context.createEventNotifier();
      using _ = world.context.addHandler(own, { onReady: () => {} });
      expect(() => world.context.addHandler(own, { onReady: () => {} })).toThrow(TypeError);
      other[Symbol.dispose]();
    });

    it('a handler runs before bottom halves of the same turn', async () => {
      using notifier = world.context.createEventNotifier();
      const order: string[] = [];
      const trigger = world.context.createBottomHalf(() => {
        half.schedule();
        notifier.set();
      });
      const half = world.context.createBottomHalf(() => void order.push('half'));
      using _ = world.context.addHandler(notifier, { onReady: () => void order.push('handler') });
      trigger.schedule();
      await world.run(world.context, () => order.includes('half') && order.includes('handler'));
      expect(world.capabilities.exactNotifiers ? order : ['handler', 'half']).toEqual(['handler', 'half']);
    });
  });
}
