import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isListening } from '@virtlab/linux';
import { describeWithFfi } from '@virtlab/linux/testing';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { commandLine, finish, startProgram } from './testing/virtlab.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtlab-output-'));
});
afterAll(() => rmSync(folder, { recursive: true }));
vi.setConfig({ testTimeout: 60_000 });

/** full(4): no byte of the output can be written. */
const unwritable = (words: string): string => `exec ${commandLine()} ${words} >/dev/full`;

describeWithFfi('standard output without room', () => {
  it.each(['vhost-user-rng --json --socket-path', 'xenstored --json --socket'])(
    'does not keep a daemon from serving: %s',
    async (words) => {
      const socket = join(folder, words.split(' ')[0]!);
      const child = startProgram('sh', ['-c', unwritable(`${words} '${socket}'`)]);
      const ended = finish(child);
      // The second time it has lost the lines about the first.
      for (let time = 0; time < 2; time += 1)
        await vi.waitFor(async () => expect(await isListening(socket)).toBe(true), { timeout: 30_000 });
      child.kill('SIGTERM');
      expect(await ended).toMatchObject({ code: 143, signal: null, stderr: 'virtlab: shutting down\n' });
      expect(existsSync(socket)).toBe(false);
    },
  );

  it('is an error of a command that has nothing else to give', async () => {
    const child = startProgram('sh', ['-c', unwritable('vhost-user-rng --print-capabilities')]);
    expect(await finish(child)).toMatchObject({ code: 1, stderr: expect.stringMatching(/ENOSPC/) });
  });
});
