import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url));

async function run(...args: readonly string[]) {
  return await new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    const words = ['--conditions=@virtlab/source', MAIN, ...args];
    const child = execFile(process.execPath, words, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

describe('npm run matrix', () => {
  it('--help says what it does, and does nothing', async () => {
    const { code, stdout, stderr } = await run('--help');
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^Usage: npm run matrix\n[^]*docs\/matrix\.md[^]*--help/);
    expect(stdout).not.toContain('in one process');
  });

  it.each([['--hepl'], ['xenbus'], ['--help=1']])('%s: exit code 2, and why', async (word) => {
    const { code, stdout, stderr } = await run(word);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^matrix: .*\nSee --help\.\n$/);
    expect(stderr).toContain(word.split('=')[0]);
  });
});
