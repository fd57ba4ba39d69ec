import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { finish, startVirtlab } from '../testing/virtlab.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtlab-refusals-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;
const fresh = (name: string): string => join(folder, `${(count += 1)}-${name}`);

describe('virtlab xenstored does not start with', { timeout: 60_000 }, () => {
  it.each([
    [
      'an unknown quota',
      ['--quota', 'frogs=1'],
      2,
      /--quota frogs=1: no such quota; there are nodes, watches, /,
    ],
    ['a quota without a value', ['--quota', 'nodes'], 2, /--quota nodes: it is not name=value/],
    ['a quota that is no number', ['--quota', 'nodes=many'], 2, /--quota nodes=many: not a whole number/],
    ['an unknown fault', ['--fault', 'rain'], 2, /--fault rain: .*eagain/],
    ['an unknown profile', ['--profile', 'c-5'], 2, /Allowed choices are c-4.17, c-head, oxenstored/],
    ['a missing directory', ['--socket', '/nowhere/socket'], 2, /there is no directory \/nowhere/],
    ['a path that is too long', ['--socket', `/${'x'.repeat(120)}`], 2, /121 bytes are more than/],
    ['a log in a missing directory', ['--access-log', '/nowhere/log'], 2, /--access-log .*no directory/],
    ['a missing dump', ['--restore', '/nowhere/dump'], 2, /--restore \/nowhere\/dump: ENOENT/],
    ['an unknown option', ['--frobnicate'], 2, /unknown option/],
    ['an operand', ['/run/socket'], 2, /too many arguments/],
  ])('%s: one clear line and the exit code', async (_what, args, code, message) => {
    const run = await finish(startVirtlab(['xenstored', '--socket', fresh('socket'), ...args]));
    expect(run.stderr).toMatch(message);
    expect(run.stderr.split('\n').length).toBeLessThan(4);
    expect(run).toMatchObject({ code, stdout: '' });
  });

  it('a file that is no dump: says so, and leaves no socket', async () => {
    const [socketPath, dump] = [fresh('socket'), fresh('dump')];
    writeFileSync(dump, 'this is no dump\n');
    const run = await finish(startVirtlab(['xenstored', '--socket', socketPath, '--restore', dump]));
    expect(run).toMatchObject({ code: 2, stdout: '' });
    expect(run.stderr).toMatch(/^virtlab: --restore .*\n$/);
    expect(existsSync(socketPath)).toBe(false);
  });

  it('something else than a socket has the name: refused, and left alone', async () => {
    const path = fresh('file');
    writeFileSync(path, 'precious');
    const run = await finish(startVirtlab(['xenstored', '--socket', path]));
    expect(run).toMatchObject({ code: 3, stdout: '' });
    expect(run.stderr).toContain('it is not a socket');
    expect(readFileSync(path, 'utf8')).toBe('precious');
  });
});
