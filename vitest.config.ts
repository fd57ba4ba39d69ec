import { globSync } from 'node:fs';
import { dirname, basename } from 'node:path';
import { defaultServerConditions } from 'vite';
import { defineConfig } from 'vitest/config';

const conditions = ['@virtlab/source', ...defaultServerConditions];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    maxWorkers: '100%', // vitest's default is cores - 1, one worker on a two-core machine
    isolate: true,
    reporters: ['default', './tools/vitest/plain-reporter.ts'],
    projects: globSync('{packages,apps,tools}/*/tsconfig.test.json')
      .map(dirname)
      .toSorted()
      .map((root) => ({
        test: {
          name: `@virtlab/${basename(root)}`,
          root,
          include: ['src/**/*.test.ts'],
          benchmark: { include: ['src/**/*.bench.ts'] },
          testTimeout: 20_000,
        },
      })),
  },
});
