import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { FIXED_GROUPS } from './fixed/fixed-groups.ts';
import { ConformanceUsageError, USAGE, parseConformanceOptions } from './options.ts';

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url));

async function run(...args: readonly string[]) {
  return await new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    const words = ['--conditions=@virtlab/source', MAIN, ...args];
    const child = execFile(process.execPath, words, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

describe('npm run xenstore-conformance', () => {
  it('--help prints the usage', async () => {
    expect(await run('--help')).toEqual({ code: 0, stdout: USAGE, stderr: '' });
  });

  it('a case that there is not: exit code 2, a sentence, and no stack', async () => {
    const { code, stdout, stderr } = await run('--case', 'nosuch');
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^xenstore-conformance: --case nosuch: .* The groups are .*\nSee --help\.\n$/);
  });

  it.each([
    [['--daemon', 'cc'], '--daemon cc: it is one of c, oxenstored, c-head'],
    [['--profile', 'c-5'], '--profile: Profile c-5 is not one of'],
    [['--seed', 'x'], '--seed x'],
    [['--steps=-1'], '--steps -1'],
    [['--record', 'c'], 'only c-head is recorded'],
    [['--record', 'c-head'], 'needs --program'],
    [['--program', '/nowhere/xenstored'], 'no such file'],
    [['--cases', 'RM'], '--cases'],
    [['RM'], 'RM'],
  ])('%j is refused, saying why', (args, reason) => {
    const parse = (): unknown => parseConformanceOptions(args, {});
    expect(parse).toThrow(ConformanceUsageError);
    expect(parse).toThrow(reason);
  });

  it('compares with everybody by default, in every fixed case and from the seeds of the tests', () => {
    const options = parseConformanceOptions([], { VIRTLAB_CAMPAIGN: '2' });
    expect(options).toMatchObject({ task: 'compare', isCase: false, groups: FIXED_GROUPS, stepCount: 5000 });
    expect(options.peerNames).toEqual(['c', 'oxenstored', 'c-head']);
    expect(parseConformanceOptions([], { VIRTLAB_SEED: '9' }).seeds).toEqual([9]);
    expect(parseConformanceOptions(['--seed', '7'], { VIRTLAB_SEED: '9' }).seeds).toEqual([7]);
  });
});
