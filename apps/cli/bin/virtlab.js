#!/usr/bin/env node
// Starts the built command if there is one beside it, else the sources: a checkout needs no build.
import { existsSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const sources = fileURLToPath(new URL('../src/main.ts', import.meta.url));
if (existsSync(sources) && process.features.typescript) {
  const { status, signal } = spawnSync(
    process.execPath,
    ['--conditions=@virtlab/source', sources, ...process.argv.slice(2)],
    { stdio: 'inherit' },
  );
  process.exitCode = signal === null ? (status ?? 1) : 128;
} else {
  await import('../dist/main.js');
}
