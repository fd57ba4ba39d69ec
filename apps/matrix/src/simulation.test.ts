import { describe, expect, it } from 'vitest';
import { BUGS, BUSES, DOORBELLS, planOf, replayCommand } from './simulation/plan.ts';
import { type Outcome, runPlan } from './simulation/run.ts';

const CAMPAIGN = Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);
const FIRST_SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 32);
const SEED_COUNT = Math.ceil(60 * CAMPAIGN);
/** A planted bug shows in most seeds; in none of so many it cannot stay hidden. */
const CANARY_SEEDS = 40;

function report(outcome: Outcome): string {
  return `Replay: ${replayCommand(outcome.plan, {})}`;
}

describe(`the whole system on a virtual clock (seeds from ${FIRST_SEED})`, () => {
  it(
    `${SEED_COUNT} seeds: faults, kills and all, every byte is right and nothing is left`,
    { timeout: 30_000 + SEED_COUNT * 2000 },
    async () => {
      const total = { kills: 0, conflicts: 0, steps: 0 };
      for (let seed = FIRST_SEED; seed < FIRST_SEED + SEED_COUNT; seed += 1) {
        const outcome = await runPlan(planOf(seed));
        expect({ failure: outcome.failure, replay: report(outcome) }).toMatchObject({ failure: undefined });
        total.kills += outcome.kills;
        total.conflicts += outcome.conflicts;
        total.steps += outcome.steps;
      }
      expect(total.kills).toBeGreaterThan(SEED_COUNT / 2);
      expect(total.conflicts).toBeGreaterThan(0);
      console.log(
        `${SEED_COUNT} seeds: ${total.steps} steps, ${total.kills} kills, ${total.conflicts} conflicts`,
      );
    },
  );

  it('same seed, same trace; another seed, another trace', async () => {
    for (const bus of BUSES) {
      const one = await runPlan(planOf(FIRST_SEED, { bus }));
      const two = await runPlan(planOf(FIRST_SEED, { bus }));
      const other = await runPlan(planOf(FIRST_SEED + 1, { bus }));
      expect(two.trace()).toEqual(one.trace());
      expect([two.digest, two.steps, two.virtualMs]).toEqual([one.digest, one.steps, one.virtualMs]);
      expect(other.digest).not.toBe(one.digest);
    }
  });

  it.each(DOORBELLS.flatMap((doorbells) => BUSES.map((bus) => [doorbells, bus] as const)))(
    'doorbells that are %s, over %s',
    async (doorbells, bus) => {
      const outcome = await runPlan(planOf(FIRST_SEED, { bus, doorbells }));
      expect({ failure: outcome.failure, replay: report(outcome) }).toMatchObject({ failure: undefined });
    },
  );

  it.each(BUGS)(
    'canary: %s is found, and the command that is printed finds it again',
    async (bug) => {
      const options = { bug };
      for (let seed = FIRST_SEED; seed < FIRST_SEED + CANARY_SEEDS; seed += 1) {
        const outcome = await runPlan(planOf(seed, options));
        if (outcome.failure === undefined) continue;
        const [, printed] = /--seed (\d+) --bug '.*'$/.exec(replayCommand(outcome.plan, options))!;
        const again = await runPlan(planOf(Number(printed), options));
        expect([again.failure, again.digest]).toEqual([outcome.failure, outcome.digest]);
        return;
      }
      expect.unreachable(`No seed from ${FIRST_SEED} on found it`);
    },
    120_000,
  );
});
