import { describe, expect, it } from 'vitest';
import { compare } from './compare.ts';
import type { BenchPlan, Contender } from './contender.ts';

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

const PLAN: BenchPlan = { roundCount: 4, runMs: 1, folder: '', onProgress: () => {} };

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
