import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { ExplorerUsageError, USAGE, chosen, parseExplorerOptions } from './options.ts';

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url));

async function run(...args: readonly string[]) {
  return await new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    const words = ['--conditions=@virtlab/source', MAIN, ...args];
    const child = execFile(process.execPath, words, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

describe('npm run explore', () => {
  it('--help prints the usage and explores nothing', async () => {
    expect(await run('--help')).toEqual({ code: 0, stdout: USAGE, stderr: '' });
  });

  it('a name that no exploration has: exit code 2, and the names', async () => {
    const { code, stdout, stderr } = await run('no such model');
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(
      /^explore: no exploration's name contains no such model\. There are:\n {2}\S[^]*\nSee --help\.\n$/,
    );
  });

  it.each([
    [['--wirte'], '--wirte'],
    [['--write', 'ring'], 'a run of all'],
  ])('%j is refused, saying why', (args, reason) => {
    const parse = (): unknown => parseExplorerOptions(args);
    expect(parse).toThrow(ExplorerUsageError);
    expect(parse).toThrow(reason);
  });

  it('runs all, or those that are named in part', () => {
    const cases = [{ name: 'split ring' }, { name: 'event channel' }];
    expect(chosen(cases, [])).toEqual(cases);
    expect(chosen(cases, ['ring'])).toEqual([cases[0]]);
  });
});
