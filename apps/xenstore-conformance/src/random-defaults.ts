import type { Theme } from './generate-request.ts';
import type { PeerName } from './peers.ts';

/** First seeds of the random scripts of every test run. */
export const RANDOM_SEEDS: readonly number[] = [1, 20_001, 300_001];
/** Steps of the random scripts from each of these seeds, for each live daemon. */
export const RANDOM_STEP_COUNT = 2500;

/** What the random scripts for each daemon are about. */
export const RANDOM_THEMES: Readonly<Record<PeerName, readonly Theme[]>> = {
  c: ['usual', 'lives and limits'],
  'c-head': ['usual', 'lives and limits'],
  oxenstored: ['usual'],
};

/** The seeds to start from: `text` (VIRTLAB_SEED) if there is one. */
export function randomSeeds(text: string | undefined): readonly number[] {
  return text === undefined ? RANDOM_SEEDS : [Number(text)];
}
