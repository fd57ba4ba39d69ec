/**
 * How often a property is tried: `VIRTLAB_CAMPAIGN` multiplies, `VIRTLAB_SEED` repeats a run (fast-check prints the seed
 * of one that fails).
 */
export function campaign(numRuns: number): { readonly numRuns: number; readonly seed?: number } {
  const seed = process.env['VIRTLAB_SEED'];
  return { numRuns: Math.ceil(numRuns * factor()), ...(seed === undefined ? {} : { seed: Number(seed) }) };
}

/** Time limit of a test that takes at most 20 s by default. */
export function campaignTimeoutMs(): number {
  return 20_000 * Math.max(1, factor());
}

function factor(): number {
  return Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1);
}
