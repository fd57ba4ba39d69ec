import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { GROUP_NAMES } from './group-names.ts';
import { BenchUsageError, HELP, parseBenchOptions } from './options.ts';

describe('parseBenchOptions', () => {
  it('runs all groups in full by default', () => {
    expect(parseBenchOptions([])).toEqual({
      groups: GROUP_NAMES,
      isQuick: false,
      isJson: false,
      isWrite: false,
      isHelp: false,
    });
  });

  it('--only may be repeated, and keeps the order of the groups', () => {
    expect(parseBenchOptions(['--only', 'blk', '--only=ring', '--quick']).groups).toEqual(['ring', 'blk']);
  });

  it.each([
    [['--only', 'disk'], 'disk'],
    [['--only'], '--only'],
    [['--fast'], '--fast'],
    [['ring'], 'ring'],
    [['--write', '--only', 'ring'], 'all groups'],
  ])('%j is refused, saying why', (args, reason) => {
    const parse = (): unknown => parseBenchOptions(args);
    expect(parse).toThrow(BenchUsageError);
    expect(parse).toThrow(reason);
  });
});

describe('npm run bench', () => {
  const run = async (...args: readonly string[]) =>
    await new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
      const main = fileURLToPath(new URL('main.ts', import.meta.url));
      const child = execFile(
        process.execPath,
        ['--conditions=@virtlab/source', main, ...args],
        (_error, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
      );
    });

  it('prints its help on stdout', async () => {
    expect(await run('--help')).toEqual({ code: 0, stdout: HELP, stderr: '' });
  });

  it('ends with 2 and a sentence on stderr for arguments it cannot work with', async () => {
    const { code, stdout, stderr } = await run('--only', 'nothing');
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toContain('--only nothing: the groups are ring, ring-packed, ring-processes, notify,');
  });
});
