import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { BUGS, BUSES, DOORBELLS, type PlanOptions, planOf, replayCommand } from './plan.ts';
import { type Outcome, runPlan } from './run.ts';

const USAGE = `Usage: npm run simulate -- [options]

The whole system, two guests and domain 0, in one thread on a virtual clock, with faults that the seed chooses.

  --seed N          the first seed (default: of the clock)
  --count N         seeds from there on (default: 1 with --seed, else 20)
  --bus BUS         ${BUSES.join(' or ')} (default: the seed's choice)
  --doorbells KIND  ${DOORBELLS.join(', ')} (default: the seed's choice)
  --bug BUG         plant a bug: ${BUGS.join('; ')}
  --trace FILE      write the trace of the last run
  --help`;

const OPTIONS = {
  seed: { type: 'string' },
  count: { type: 'string' },
  bus: { type: 'string' },
  doorbells: { type: 'string' },
  bug: { type: 'string' },
  trace: { type: 'string' },
  help: { type: 'boolean' },
} as const;

/** Answers the exit status: 0 all well, 1 a run failed, 2 bad usage. */
async function main(argv: readonly string[]): Promise<number> {
  let values;
  try {
    ({ values } = parseArgs({ args: [...argv], options: OPTIONS }));
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${USAGE}`);
    return 2;
  }
  if (values.help === true) {
    console.log(USAGE);
    return 0;
  }
  const bus = oneOf('bus', values.bus, BUSES);
  const doorbells = oneOf('doorbells', values.doorbells, DOORBELLS);
  const bug = oneOf('bug', values.bug, BUGS);
  const first = number('seed', values.seed) ?? Date.now() % 2 ** 32;
  const count = number('count', values.count) ?? (values.seed === undefined ? 20 : 1);
  const options: PlanOptions = {
    ...(bus === undefined ? {} : { bus }),
    ...(doorbells === undefined ? {} : { doorbells }),
    ...(bug === undefined ? {} : { bug }),
  };
  let failureCount = 0;
  for (let seed = first; seed < first + count; seed += 1) {
    const outcome = await runPlan(planOf(seed, options));
    console.log(describe(outcome));
    if (outcome.failure !== undefined) {
      failureCount += 1;
      console.log(`  ${outcome.failure}\n  Replay: ${replayCommand(outcome.plan, options)}`);
    }
    if (values.trace !== undefined) writeFileSync(values.trace, `${outcome.trace().join('\n')}\n`);
  }
  console.log(`${count} runs, ${failureCount} failed`);
  return failureCount === 0 ? 0 : 1;
}

function describe({ plan, kills, conflicts, virtualMs, steps, digest, failure }: Outcome): string {
  const death = plan.dom0DiesAtMs === undefined ? '' : ', domain 0 dies';
  const facts = `${plan.bus}, ${plan.doorbells}, ${kills} kills${death}, ${conflicts} conflicts`;
  const size = `${(virtualMs / 1000).toFixed(2)} virtual s, ${steps} steps`;
  return `seed ${plan.seed}: ${failure === undefined ? 'ok' : 'FAILED'} (${facts}; ${size}; trace ${digest})`;
}

class UsageError extends Error {}

function oneOf<T extends string>(
  name: string,
  value: string | undefined,
  known: readonly T[],
): T | undefined {
  if (value === undefined) return undefined;
  const found = known.find((each) => each === value);
  if (found === undefined) throw new UsageError(`--${name} is one of ${known.join(', ')}, not ${value}`);
  return found;
}

function number(name: string, value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const found = Number(value);
  if (!Number.isSafeInteger(found) || found < 0) throw new UsageError(`--${name} ${value} is no number`);
  return found;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  console.error(`${error.message}\n\n${USAGE}`);
  process.exitCode = 2;
}
