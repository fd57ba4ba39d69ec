/** A seeded generator for reproducible choices; not for secrets. */
export interface Prng {
  /** The next 32 bits, unsigned. */
  next(): number;
  /** A double in [0, 1). */
  fraction(): number;
  /** An integer in [0, bound). */
  below(bound: number): number;
}

/** splitmix32: spreads a small seed over words that differ in about half of their bits. */
function splitmix(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e37_79b9) >>> 0;
    let z = state ^ (state >>> 16);
    z = Math.imul(z, 0x21f0_aaad);
    z ^= z >>> 15;
    z = Math.imul(z, 0x735a_2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
}

/**
 * xoshiro128** 1.1 (Blackman and Vigna), seeded by splitmix32. The same seed gives the same sequence
 * everywhere.
 */
export function createPrng(seed: number): Prng {
  const mix = splitmix(seed);
  let a = mix();
  let b = mix();
  let c = mix();
  let d = mix();
  const next = (): number => {
    const product = Math.imul(b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);
    return result;
  };
  return {
    next,
    fraction: () => next() / 2 ** 32,
    below: (bound) => Math.floor((next() / 2 ** 32) * bound),
  };
}
