import { spawnSync } from 'node:child_process';

const TIMEOUT_MS = 20_000;

/**
 * Runs a module of TypeScript in a process of its own, which may import this package, and answers what it printed: for what would
 * take the test's process with it if it went wrong. `limits` are options of `ulimit`. Throws when it does not end well.
 */
export function runProgram(program: string, limits: string = ''): string {
  const flags = ['--expose-gc', '--conditions=@virtlab/source', '--input-type=module-typescript', '--eval'];
  const script = `${limits === '' ? '' : `ulimit ${limits} && `}exec "$0" "$@"`;
  const args = ['-c', script, process.execPath, ...flags, program];
  const options = { cwd: new URL('..', import.meta.url), encoding: 'utf8', timeout: TIMEOUT_MS } as const;
  const { stdout, stderr, status, signal } = spawnSync('sh', args, { ...options, killSignal: 'SIGKILL' });
  if (status !== 0) throw new Error(`The program ended with ${status ?? signal}: ${stdout}${stderr}`);
  return stdout.trim();
}
