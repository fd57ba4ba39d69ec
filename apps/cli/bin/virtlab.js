#!/usr/bin/env node
// Starts the built command if there is one beside it, else the sources: a checkout needs no build.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const sources = fileURLToPath(new URL('../src/main.ts', import.meta.url));
if (existsSync(sources) && process.features.typescript) {
  // In place of this process, so that signals and standard streams are the command's own.
  const args = ['--conditions=@virtlab/source', sources, ...process.argv.slice(2)];
  process.execve(process.execPath, [process.execPath, ...args], process.env);
} else {
  await import('../dist/main.js');
}
