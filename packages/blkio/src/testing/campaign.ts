const FACTOR = Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);

/** For tests that are campaigns: a machine that is busy with others takes its time. */
export const CAMPAIGN_TIMEOUT_MS: number = 60_000 * Math.max(1, FACTOR);

/** How often a property is tried: `VIRTLAB_CAMPAIGN` multiplies, `VIRTLAB_SEED` repeats what a failure has printed. */
export function campaign(numRuns: number): { readonly numRuns: number; readonly seed?: number } {
  const seed = process.env['VIRTLAB_SEED'];
  return { numRuns: Math.ceil(numRuns * FACTOR), ...(seed === undefined ? {} : { seed: Number(seed) }) };
}
