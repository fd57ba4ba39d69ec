import { createPrng, type Prng } from '@virtlab/aio';
import type { DeviceBus } from '@virtlab/domain';
import type { DiskBug } from './volatile-disk.ts';

/** Bugs that a run may be told to have, to show that it would find them. */
export const BUGS = ['a flush that lies', 'a write that completes early', 'doorbells that get lost'] as const;
export type Bug = DiskBug | 'doorbells that get lost';

export const DOORBELLS = ['calm', 'coalescing', 'late', 'spurious', 'lost-then-repeated'] as const;
export type Doorbells = (typeof DOORBELLS)[number];

export const BUSES: readonly DeviceBus[] = ['pci', 'xenbus'];
export const GUEST_COUNT = 2;

/** Everything that happens in a run, decided by its seed before it starts. */
export interface Plan {
  readonly seed: number;
  readonly bus: DeviceBus;
  readonly doorbells: Doorbells;
  /** How many times longer a turn takes: domain 0, then the guests. */
  readonly slowness: readonly number[];
  /** The chance that a xenstore transaction meets another one, up to so many in a row. */
  readonly conflictChance: number;
  readonly conflictMax: number;
  /** Guests that are killed, each followed by one on the same disk. */
  readonly kills: readonly { readonly atMs: number; readonly guest: number }[];
  /** When domain 0 dies, if it does: the disks lose their caches, and a second system starts from them. */
  readonly dom0DiesAtMs: number | undefined;
  readonly bug: Bug | undefined;
}

export interface PlanOptions {
  readonly bus?: DeviceBus;
  readonly doorbells?: Doorbells;
  readonly bug?: Bug;
}

/** Virtual time after the boot in which kills fall, more of them early: connecting and working take 20 ms or seconds, as it goes. */
const KILLS_FROM_MS = 0.5;
const KILLS_WITHIN_MS = 600;
const KILLS_MAX = 3;

export function planOf(seed: number, options: PlanOptions = {}): Plan {
  const prng = createPrng(seed);
  const pick = <T>(choices: readonly T[]): T => choices[prng.below(choices.length)]!;
  const bus = pick(BUSES);
  const doorbells = pick(DOORBELLS);
  const slowness = Array.from({ length: 1 + GUEST_COUNT }, () => pick([1, 1, 1, 5, 50]));
  const conflictChance = pick([0, 0, 0.1, 0.4]);
  const conflictMax = 1 + prng.below(4);
  const kills = Array.from({ length: prng.below(KILLS_MAX + 1) }, () => ({
    atMs: moment(prng),
    guest: prng.below(GUEST_COUNT),
  })).toSorted((a, b) => a.atMs - b.atMs);
  // A flush that lies shows only when what it should have written is lost.
  const mustDie = options.bug === 'a flush that lies';
  const dom0Dies = prng.below(3) === 0 || mustDie;
  return {
    seed,
    bus: options.bus ?? bus,
    doorbells: options.doorbells ?? doorbells,
    slowness,
    conflictChance,
    conflictMax,
    kills,
    dom0DiesAtMs: dom0Dies ? Math.max(moment(prng), ...kills.map(({ atMs }) => atMs)) : undefined,
    bug: options.bug,
  };
}

function moment(prng: Prng): number {
  return KILLS_FROM_MS * (KILLS_WITHIN_MS / KILLS_FROM_MS) ** prng.fraction();
}

/** The command that runs the plan again. */
export function replayCommand({ seed, bug }: Plan, options: PlanOptions): string {
  const words = ['npm run simulate --', `--seed ${seed}`];
  if (options.bus !== undefined) words.push(`--bus ${options.bus}`);
  if (options.doorbells !== undefined) words.push(`--doorbells ${options.doorbells}`);
  if (bug !== undefined) words.push(`--bug '${bug}'`);
  return words.join(' ');
}
