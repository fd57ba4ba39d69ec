import type { FeatureBits } from '@virtlab/abi/brands';

/** Feature registers show 32 bits at a time (§4.1.4.3); 128 bits are defined (§2.2). */
export const FEATURE_WORD_COUNT = 4;

const WORD_BITS = 32;

/** Bits `32 × word` to `32 × word + 31`; 0 beyond the last word. */
export function featureWord(features: FeatureBits, word: number): number {
  if (word >= FEATURE_WORD_COUNT) return 0;
  return Number(BigInt.asUintN(WORD_BITS, features >> BigInt(word * WORD_BITS)));
}

/** `features` with one word replaced; unchanged for a word that does not exist. */
export function withFeatureWord(features: FeatureBits, word: number, value: number): FeatureBits {
  if (word >= FEATURE_WORD_COUNT) return features;
  const shift = BigInt(word * WORD_BITS);
  const others = features & ~(BigInt.asUintN(WORD_BITS, -1n) << shift);
  return others | (BigInt(value) << shift);
}
