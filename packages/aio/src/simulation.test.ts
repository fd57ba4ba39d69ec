import { describe, expect, it } from 'vitest';
import { createPrng } from './prng.ts';
import { DOORBELL_POLICIES, createSimulation, type Simulation } from './simulated.ts';

/** Two contexts that throw a ball over notifiers, timers and promises, and note what they see. */
async function rally(simulation: Simulation, throws: number): Promise<string> {
  const left = simulation.createContext('left');
  const right = simulation.createContext('right');
  const toRight = right.createEventNotifier();
  const toLeft = left.createEventNotifier();
  let balls = 0;
  const answer = right.createTimer(() => toLeft.set());
  right.addHandler(toRight, { onReady: () => answer.arm(simulation.prng.fraction()) });
  left.addHandler(toLeft, {
    onReady() {
      balls++;
      void Promise.resolve()
        .then(() => simulation.note('left', `ball ${balls}`))
        .then(() => {
          if (balls < throws) toRight.set();
        });
    },
  });
  toRight.set();
  await simulation.run();
  expect(balls).toBeGreaterThanOrEqual(throws);
  left[Symbol.dispose]();
  right[Symbol.dispose]();
  return JSON.stringify(simulation.trace);
}

describe('simulation', () => {
  it.each(Object.values(DOORBELL_POLICIES))(
    'same seed, same trace; another seed, another trace ($name)',
    async (deliver) => {
      const one = await rally(createSimulation({ seed: 7, deliver }), 30);
      const two = await rally(createSimulation({ seed: 7, deliver }), 30);
      const other = await rally(createSimulation({ seed: 8, deliver }), 30);
      expect(two).toBe(one);
      expect(other).not.toBe(one);
    },
  );

  it('time is virtual: a thousand seconds pass at once', async () => {
    const simulation = createSimulation({ seed: 1 });
    using context = simulation.createContext('test');
    const seen: number[] = [];
    using timer = context.createTimer(() => void seen.push(context.now()));
    timer.arm(1_000_000);
    await simulation.advance(999_999);
    expect(seen).toEqual([]);
    expect(simulation.now()).toBe(999_999);
    await simulation.run({ untilMs: 1_000_001 });
    expect(seen[0]).toBeGreaterThanOrEqual(1_000_000);
    expect(simulation.now()).toBe(1_000_001);
  });

  it('run until idle leaves the clock at the last step', async () => {
    const simulation = createSimulation({ seed: 1 });
    using context = simulation.createContext('test');
    using timer = context.createTimer(() => {});
    timer.arm(10);
    await simulation.run({ untilIdle: true });
    expect(simulation.now()).toBeGreaterThanOrEqual(10);
    expect(simulation.now()).toBeLessThan(10.1);
    expect(context.leaks()).toEqual([]);
  });

  it('microtasks of any depth run between two steps', async () => {
    const simulation = createSimulation({ seed: 1 });
    using context = simulation.createContext('test');
    const order: string[] = [];
    const second = context.createBottomHalf(() => void order.push('second'));
    const first = context.createBottomHalf(() => {
      void (async () => {
        for (let i = 0; i < 50; i++) await Promise.resolve();
        order.push('deep');
      })();
      second.schedule();
    });
    first.schedule();
    await simulation.run();
    expect(order).toEqual(['deep', 'second']);
  });

  it('ties are broken by the seed, in both ways', async () => {
    const winners = new Set<string>();
    for (let seed = 0; seed < 20; seed++) {
      const simulation = createSimulation({ seed });
      const order: string[] = [];
      for (const name of ['a', 'b']) {
        simulation
          .createContext(name)
          .createTimer(() => void order.push(name))
          .arm(1);
      }
      await simulation.run();
      winners.add(order.join(''));
    }
    expect(winners).toEqual(new Set(['ab', 'ba']));
  });

  it('late doorbells arrive late, spurious ones more than once, and none is lost', async () => {
    const arrivals: Record<string, number> = {};
    const delays: Record<string, number> = {};
    for (const deliver of Object.values(DOORBELL_POLICIES)) {
      if (deliver.name === 'dropping') continue;
      const simulation = createSimulation({ seed: 3, deliver });
      using context = simulation.createContext('test');
      using notifier = context.createEventNotifier();
      let runs = 0;
      let longest = 0;
      let setAt = 0;
      using _ = context.addHandler(notifier, {
        onReady() {
          runs++;
          if (notifier.testAndClear()) longest = Math.max(longest, context.now() - setAt);
        },
      });
      for (let i = 0; i < 50; i++) {
        const before = runs;
        setAt = context.now();
        notifier.set();
        await simulation.run();
        expect(runs).toBeGreaterThan(before);
      }
      arrivals[deliver.name] = runs;
      delays[deliver.name] = longest;
    }
    expect(arrivals).toMatchObject({ calm: 50, coalescing: 50, late: 50 });
    expect(arrivals['spurious']).toBeGreaterThan(55);
    expect(arrivals['lost-then-repeated']).toBeGreaterThanOrEqual(50);
    expect(delays['lost-then-repeated']).toBeGreaterThan(40);
    expect(delays['late']).toBeGreaterThan(5);
    expect(delays['calm']).toBeLessThan(0.01);
  });

  it('dropped doorbells never arrive, and leave a note in the trace: what a test of the system must find', async () => {
    const simulation = createSimulation({ seed: 3, deliver: 'dropping' });
    using context = simulation.createContext('test');
    using notifier = context.createEventNotifier();
    let runs = 0;
    using _ = context.addHandler(notifier, { onReady: () => void (runs += notifier.testAndClear() ? 1 : 0) });
    for (let i = 0; i < 500; i++) {
      notifier.set();
      await simulation.run();
    }
    expect(runs).toBeLessThan(500);
    expect(simulation.trace.filter(({ what }) => what === 'note')).toHaveLength(500 - runs);
  });

  it('an exception of a callback ends the run, and the loop goes on afterwards', async () => {
    const simulation = createSimulation({ seed: 1 });
    using context = simulation.createContext('test');
    let ran = false;
    const bad = context.createBottomHalf(() => {
      throw new Error('broken callback');
    });
    const good = context.createBottomHalf(() => (ran = true));
    bad.schedule();
    good.schedule();
    await expect(simulation.run()).rejects.toThrow('broken callback');
    await simulation.run();
    expect(ran).toBe(true);
  });

  it('contexts that never become idle end the run with an error', async () => {
    const simulation = createSimulation({ seed: 1, stepMax: 100, traceMax: 10 });
    using context = simulation.createContext('test');
    const half = context.createBottomHalf(() => half.schedule());
    half.schedule();
    await expect(simulation.run()).rejects.toThrow(/Not idle after 100 steps/);
    half.cancel();
    expect(simulation.trace).toHaveLength(10);
    expect(simulation.stepCount).toBe(100);
  });

  it('one run at a time', async () => {
    const simulation = createSimulation({ seed: 1 });
    const first = simulation.run();
    await expect(simulation.run()).rejects.toThrow(TypeError);
    await first;
  });
});

describe('createPrng', () => {
  it('repeats for a seed, differs between neighbouring seeds, and fills its range', () => {
    const sequence = (seed: number): number[] => {
      const prng = createPrng(seed);
      return Array.from({ length: 1000 }, () => prng.next());
    };
    expect(sequence(1)).toEqual(sequence(1));
    const [one, two] = [sequence(1), sequence(2)];
    expect(one.filter((word, index) => word === two[index])).toHaveLength(0);
    for (let bit = 0; bit < 32; bit++) {
      const ones = one.filter((word) => (word >>> bit) & 1).length;
      expect(ones, `bit ${bit}`).toBeGreaterThan(400);
      expect(ones, `bit ${bit}`).toBeLessThan(600);
    }
  });

  it('below stays below', () => {
    const prng = createPrng(5);
    const seen = new Set(Array.from({ length: 500 }, () => prng.below(7)));
    expect([...seen].toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });
});
