import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { commandLine, shell } from './testing/virtlab.ts';

const README = readFileSync(new URL('../README.md', import.meta.url), 'utf8');

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtlab-readme-'));
  const program = join(folder, 'virtlab');
  writeFileSync(program, `#!/bin/sh\nexec ${commandLine()} "$@"\n`);
  chmodSync(program, 0o755);
});
afterAll(() => rmSync(folder, { recursive: true }));

it('README: the commands print what it says', { timeout: 60_000 }, async () => {
  const [, script, output] = /## Usage\n\n```sh\n([^]*?)```\n\nprints\n\n```text\n([^]*?)```/.exec(README)!;
  const path = `${folder}${delimiter}${process.env['PATH']}`;
  const run = await shell(`exec 2>&1\n${script}`, folder, { PATH: path });
  expect(run.output).toBe(output);
  expect(run.status).toBe(0);
});
