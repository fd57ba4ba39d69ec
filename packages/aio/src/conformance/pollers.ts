import { describe, expect, it } from 'vitest';
import type { AioWorld } from './world.ts';

/** Part of `describeAioContext`. */
export function describePollers(world: AioWorld): void {
  describe('pollers', () => {
    it('begin and end alternate around polling, and end comes before the context sleeps', async () => {
      const calls: string[] = [];
      const poller = world.context.addPoller({
        poll() {
          if (calls.at(-1) !== 'poll') calls.push('poll');
          return false;
        },
        begin: () => void calls.push('begin'),
        end() {
          calls.push('end');
          return false;
        },
      });
      await world.run(world.context, () => calls.at(-1) === 'end');
      const half = world.context.createBottomHalf(() => {});
      half.schedule();
      await world.run(world.context, () => calls.filter((call) => call === 'end').length >= 2);
      poller[Symbol.dispose]();
      const brackets = calls.filter((call) => call !== 'poll');
      brackets.forEach((call, index) => expect(call).toBe(index % 2 === 0 ? 'begin' : 'end'));
      expect(calls.join(' ')).toMatch(/^begin poll end( begin poll end)+$/);
      expect(world.context.statistics.sleeps).toBeGreaterThanOrEqual(1);
    });

    it('end that answers true prevents the sleep', async () => {
      let work = false;
      let done = 0;
      let ends = 0;
      let sleepsAtEnd = -1;
      const poller = world.context.addPoller({
        poll() {
          if (!work) return false;
          work = false;
          done++;
          expect(world.context.statistics.sleeps).toBe(sleepsAtEnd);
          return true;
        },
        end() {
          // Work that arrives when the context has stopped looking, and has not yet said so.
          if (ends++ > 0) return false;
          work = true;
          sleepsAtEnd = world.context.statistics.sleeps;
          return true;
        },
      });
      await world.run(world.context, () => done === 1);
      await world.settle();
      poller[Symbol.dispose]();
      expect(world.context.statistics.pollHits).toBe(1);
    });

    it('work that end makes ready is not slept on', async () => {
      using notifier = world.context.createEventNotifier();
      let runs = 0;
      let ends = 0;
      using _ = world.context.addHandler(notifier, { onReady: () => void runs++ });
      const poller = world.context.addPoller({
        poll: () => false,
        end() {
          if (ends++ === 0) notifier.set();
          return false;
        },
      });
      await world.run(world.context, () => runs > 0);
      poller[Symbol.dispose]();
      expect(ends).toBeGreaterThan(0);
    });

    it('a poller is consulted without being asked when it is added, and progress keeps the context polling', async () => {
      let rest = 5;
      const poller = world.context.addPoller({ poll: () => rest-- > 0 });
      await world.run(world.context, () => rest < 0);
      poller[Symbol.dispose]();
      poller[Symbol.dispose]();
      const seen = rest;
      await world.settle();
      expect(rest).toBe(seen);
    });

    it('a poller that is removed while the context polls is ended first', async () => {
      const calls: string[] = [];
      const poller = world.context.addPoller({
        poll() {
          poller[Symbol.dispose]();
          return true;
        },
        begin: () => void calls.push('begin'),
        end: () => calls.push('end') < 0,
      });
      await world.run(world.context, () => calls.length === 2);
      expect(calls).toEqual(['begin', 'end']);
    });

    it('pollers may be added and removed from within one', async () => {
      const calls: string[] = [];
      const second = { poll: () => calls.push('second') < 0 };
      let added: Disposable | undefined;
      const first = world.context.addPoller({
        poll() {
          if (added === undefined) added = world.context.addPoller(second);
          else first[Symbol.dispose]();
          return true;
        },
      });
      await world.run(world.context, () => calls.length > 0);
      added?.[Symbol.dispose]();
      await world.settle();
      expect(world.context.leaks()).toEqual([]);
    });
  });
}
