import { afterEach, beforeEach, describe } from 'vitest';
import type { AioContext } from '../aio-context.ts';
import { describeBottomHalves } from './bottom-halves.ts';
import { describeLife } from './life.ts';
import { describeNotifiers } from './notifiers.ts';
import { describePollers } from './pollers.ts';
import { describeTimers } from './timers.ts';
import type { AioCapabilities, AioWorld } from './world.ts';

export interface AioContextCase {
  readonly name: string;
  /** A fresh context; its `leaks` are empty. */
  readonly create: () => AioContext;
  /** Lets the context run, and the microtasks of this thread, until `done` answers true. */
  readonly run: (context: AioContext, done: () => boolean) => Promise<void>;
  readonly capabilities: AioCapabilities;
}

const FENCE_TURNS = 5;

/**
 * Certifies an implementation of `AioContext`. Each test ends by asserting that nothing is left registered.
 */
export function describeAioContext({ name, create, run, capabilities }: AioContextCase): void {
  describe(`AioContext: ${name}`, () => {
    let context: AioContext;

    beforeEach(() => void (context = create()));
    afterEach(() => {
      const leaks = context.leaks();
      context[Symbol.dispose]();
      if (leaks.length > 0) throw new Error(`Left registered: ${leaks.join(', ')}`);
    });

    const settle = async (): Promise<void> => {
      let turns = 0;
      const fence = context.createBottomHalf(() => {
        if (++turns < FENCE_TURNS) fence.schedule();
      });
      fence.schedule();
      await run(context, () => turns === FENCE_TURNS);
    };

    const world: AioWorld = {
      get context() {
        return context;
      },
      create,
      run,
      settle,
      capabilities,
    };
    describeBottomHalves(world);
    describeTimers(world);
    describeNotifiers(world);
    describePollers(world);
    describeLife(world);
  });
}
