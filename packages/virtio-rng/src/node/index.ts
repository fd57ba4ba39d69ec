import { randomFillSync } from 'node:crypto';
import type { RandomSource } from '../random-source.ts';

/** Node's generator: OpenSSL's, seeded by the kernel. */
export const nodeCryptoSource: RandomSource = {
  fill: (bytes) => {
    randomFillSync(bytes);
  },
};
