import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { commandLine, finish, lines, needs, shell, startProgram } from './testing/virtlab.ts';

const README = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8');
const SECTION = README.slice(
  README.indexOf('## A xenstore without Xen'),
  README.indexOf('## Where things are'),
);
const TOOLS = needs('xenstore-write', 'xenstore-utils');

let folder: string;
let daemon: ChildProcess | undefined;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtlab-root-readme-'));
});
afterAll(() => {
  daemon?.kill();
  rmSync(folder, { recursive: true });
});

describe('README of the project: a xenstore without Xen', { timeout: 60_000 }, () => {
  it.skipIf(TOOLS.missing)(`the daemon and the commands do what it says${TOOLS.note}`, async () => {
    const here = (script: string): string =>
      script.replaceAll('npx virtlab', commandLine()).replaceAll('/tmp/xs.sock', join(folder, 'xs.sock'));
    const [daemonBlock, clientBlock] = Array.from(
      SECTION.matchAll(/```sh\n([^]*?)```/g),
      ([, block]) => block!,
    );
    daemon = startProgram('bash', ['-c', `cd '${folder}' && exec ${here(daemonBlock!)}`]);
    const ended = finish(daemon);
    expect((await lines(daemon, 1))[0]).toContain('oxenstored');

    const run = await shell(`set -e\n${here(clientBlock!)}`, folder);
    expect(run.output).toContain('name = "guest"');
    expect(run.output).toContain('EAGAIN 3');
    expect(run.status).toBe(0);

    daemon.kill('SIGTERM');
    await ended;
    const log = readFileSync(join(folder, 'xs.log'), 'utf8');
    expect(log.match(/EAGAIN forced by a fault/g)).toHaveLength(3);
  });
});
