import { globSync } from 'node:fs';
import { dirname, basename } from 'node:path';
import { defaultServerConditions } from 'vite';
import { defineConfig } from 'vitest/config';

/** Our vhost-user daemons under QEMU and under Linux: run by `npm run test:guests`, not yet part of every test run. */
const guestSuites =
  process.env['VIRTLAB_GUESTS'] === '1' ? [] : ['src/backends/**/*.test.ts', 'src/guest/**/*.test.ts'];

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
          exclude: guestSuites,
          benchmark: { include: ['src/**/*.bench.ts'] },
          testTimeout: 20_000,
        },
      })),
  },
});
