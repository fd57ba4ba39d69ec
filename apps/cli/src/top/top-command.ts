import { setTimeout as sleep } from 'node:timers/promises';
import { type DaemonStatistics, readStatistics } from '@virtlab/xenstore';
import { type XenstoreClient, XenstoreError } from '@virtlab/xenstore/node/client';
import type { Command } from 'commander';
import { positiveNumber, wholeNumber } from '../option-values.ts';
import { type StoreFlags, XsFailure, storeCommand, withStore } from '../xs/session.ts';
import { compareStatistics } from './rates.ts';
import { type QuotaLimits, renderSnapshot } from './render.ts';

interface TopFlags extends StoreFlags {
  readonly interval: number;
  readonly count?: number;
}

const HOME = '\u001B[H';
const NO_WRAP = '\u001B[?7l';
const WRAP = '\u001B[?7h';
const CLEAR_LINE = '\u001B[K';
const CLEAR_BELOW = '\u001B[J';

/** `virtlab xs top`: redraws on a terminal, prints one snapshot after the other elsewhere. */
export function topCommand(): Command {
  return storeCommand('top')
    .description(
      'Shows what a daemon of virtlab is doing: requests, connections, quotas, conflicts, expensive watches',
    )
    .option('-i, --interval <seconds>', 'between two snapshots', positiveNumber, 1)
    .option('-n, --count <count>', 'end after so many snapshots', wholeNumber)
    .action(top);
}

function top(flags: TopFlags): Promise<void> {
  return withStore(flags, async (store) => {
    let earlier = await statisticsOf(store);
    const limits = await quotaLimits(store);
    const { count = Number.POSITIVE_INFINITY, interval } = flags;
    for (let shownCount = 0; shownCount < count; shownCount++) {
      await sleep(interval * 1000);
      const later = await readStatistics(store);
      show(earlier, later, limits, flags.json);
      earlier = later;
    }
  });
}

async function statisticsOf(store: XenstoreClient): Promise<DaemonStatistics> {
  try {
    return await readStatistics(store);
  } catch (error) {
    if (error instanceof XenstoreError && error.code === 'EIO') throw error;
    throw new XsFailure('this daemon has no statistics: only "virtlab xenstored" answers CONTROL statistics');
  }
}

/** Limits as CONTROL `quota` lists them: a line each, `name : value description`. */
async function quotaLimits(store: XenstoreClient): Promise<QuotaLimits> {
  const text = await store.control('quota').catch(() => '');
  const limits = new Map<string, number>();
  for (const [, name, value] of text.matchAll(/^([a-z-]+)\s*:\s*(\d+)/gm)) limits.set(name!, Number(value));
  return limits;
}

function show(
  earlier: DaemonStatistics,
  later: DaemonStatistics,
  limits: QuotaLimits,
  isJson: boolean,
): void {
  const snapshot = compareStatistics(earlier, later);
  if (isJson) {
    process.stdout.write(`${JSON.stringify(snapshot)}\n`);
    return;
  }
  const lines = renderSnapshot(snapshot, limits);
  if (!process.stdout.isTTY) {
    process.stdout.write(`${lines.join('\n')}\n\n`);
    return;
  }
  const visible = lines.slice(0, Math.max(1, process.stdout.rows - 1));
  const text = visible.map((line) => `${line}${CLEAR_LINE}\n`).join('');
  process.stdout.write(`${NO_WRAP}${HOME}${text}${CLEAR_BELOW}${WRAP}`);
}
