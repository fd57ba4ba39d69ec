import { describe, expect, it } from 'vitest';
import { compare } from './compare.ts';
import type { BenchPlan, Contender, RunResult } from './contender.ts';

/** A contender whose operations take `ns` each, by its own account. */
function contender(name: string, isPeer: boolean, ns: number, runs: string[]): Contender {
  return {
    name,
    isPeer,
    run: (count) => {
      runs.push(name);
      const doorbells = isPeer ? undefined : { kicks: count / 4, calls: count / 2 };
      return { operationCount: count, elapsedNs: count * ns, doorbells };
    },
  };
}

const PLAN: BenchPlan = {
  roundCount: 4,
  runMs: 1,
  folder: '',
  onProgress: () => {},
  onMissing: () => {},
  onCurve: () => {},
};

describe('compare', () => {
  it('contenders take turns, and each round begins with the next', async () => {
    const runs: string[] = [];
    const contenders = ['a', 'b', 'c'].map((name) => contender(name, false, 100, runs));
    await compare({ title: 't', operation: 'o', contenders }, PLAN);
    expect(runs.slice(-12)).toEqual('abc bca cab abc'.match(/[abc]/g));
  });

  it('a run is as long as the plan says, whatever an operation costs', async () => {
    for (const ns of [3, 4000, 5e6]) {
      const counts: number[] = [];
      const one: Contender = {
        name: 'x',
        isPeer: false,
        run: (count) => {
          counts.push(count);
          return { operationCount: count, elapsedNs: count * ns };
        },
      };
      await compare({ title: 't', operation: 'o', contenders: [one] }, { ...PLAN, runMs: 20 });
      expect(counts.at(-1)).toBe(Math.max(1, Math.round(20e6 / ns)));
    }
  });

  it('a slow first run does not make all runs short', async () => {
    let runs = 0;
    const counts: number[] = [];
    const warming: Contender = {
      name: 'x',
      isPeer: false,
      run: (count) => {
        runs += 1;
        counts.push(count);
        return { operationCount: count, elapsedNs: (runs === 1 ? 1e9 : 0) + count * 100 };
      },
    };
    await compare({ title: 't', operation: 'o', contenders: [warming] }, PLAN);
    expect(counts.at(-1)).toBe(10_000);
  });

  it('reports our ratio to every peer, also where we lose, and doorbells for one operation', async () => {
    const contenders = [
      contender('ours', false, 200, []),
      contender('faster', true, 100, []),
      contender('slower', true, 400, []),
    ];
    const report = await compare({ title: 't', operation: 'o', contenders }, PLAN);
    const [ours, faster] = report.contenders;
    expect(ours!.nsPerOperation).toEqual({ median: 200, min: 200, max: 200, sampleCount: 4 });
    expect(ours!.against).toEqual([
      { peer: 'faster', ratio: 2 },
      { peer: 'slower', ratio: 0.5 },
    ]);
    expect(ours!.doorbells).toEqual({ kicks: 0.25, calls: 0.5, wakeUps: undefined });
    expect([faster!.against, faster!.doorbells]).toEqual([[], undefined]);
  });

  it('a ratio is made only to the peers that a contender is beside', async () => {
    const ours = { ...contender('ours', false, 200, []), beside: ['equal', 'not here'] };
    const contenders = [ours, contender('other', true, 100, []), contender('equal', true, 400, [])];
    const report = await compare({ title: 't', operation: 'o', operationSize: 512, contenders }, PLAN);
    expect(report.contenders[0]!.against).toEqual([{ peer: 'equal', ratio: 0.5 }]);
    expect(report.operationSize).toBe(512);
  });

  it('a comparison may do with a share of the time for a run', async () => {
    const counts: number[] = [];
    const one: Contender = {
      ...contender('x', false, 100, []),
      run: (count) => {
        counts.push(count);
        return { operationCount: count, elapsedNs: count * 100 };
      },
    };
    await compare({ title: 't', operation: 'o', contenders: [one], runShare: 0.25 }, PLAN);
    expect(counts.at(-1)).toBe(2500);
  });

  it('each measured run is made ready for', async () => {
    const steps: string[] = [];
    const one: Contender = {
      ...contender('run', false, 1e6, steps),
      prepare: async () => void steps.push('prepare'),
    };
    await compare({ title: 't', operation: 'o', contenders: [one] }, PLAN);
    expect(steps.slice(-4)).toEqual(['prepare', 'run', 'prepare', 'run']);
  });

  it('counts are given for one operation', async () => {
    const one: Contender = {
      ...contender('x', false, 100, []),
      run: (count) => ({ operationCount: count, elapsedNs: count * 100, counts: { traps: 3 * count } }),
    };
    const report = await compare({ title: 't', operation: 'o', contenders: [one] }, PLAN);
    expect(report.contenders[0]!.counts['traps']).toBeCloseTo(3);
  });

  it.runIf(process.platform === 'linux')(
    'processor time is that of this process and of those named',
    async () => {
      const spin = (count: number): RunResult => {
        const end = performance.now() + 5;
        while (performance.now() < end);
        return { operationCount: count, elapsedNs: 5e6 };
      };
      const one: Contender = { name: 'x', isPeer: false, pids: [], run: spin };
      const twice: Contender = { name: 'y', isPeer: false, pids: [process.pid], run: spin };
      const unknown: Contender = { name: 'z', isPeer: false, run: spin };
      const gone: Contender = { name: 'g', isPeer: false, pids: [2 ** 30], run: spin };
      const contenders = [one, twice, unknown, gone];
      const report = await compare({ title: 't', operation: 'o', contenders }, { ...PLAN, runMs: 5 });
      const [once, both, none, lost] = report.contenders.map(({ cpuNs }) => cpuNs);
      expect(once).toBeGreaterThan(0);
      expect(both).toBeGreaterThan(0);
      expect([none, lost]).toEqual([undefined, undefined]);
    },
  );

  it('what goes wrong in a run is not swallowed', async () => {
    const broken: Contender = {
      name: 'broken',
      isPeer: false,
      run: () => {
        throw new Error('a buffer was lost');
      },
    };
    const comparison = { title: 't', operation: 'o', contenders: [broken] };
    await expect(compare(comparison, PLAN)).rejects.toThrow('a buffer was lost');
  });
});
