import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { readmeExample } from './extract.ts';

export interface ProcessRun {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs the example of a README in a Node of its own, in the README's folder, until nothing is left that keeps a process
 * alive.
 */
export function runReadmeExampleAlone(readme: URL, heading?: string): ProcessRun {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [
      '--conditions=@virtlab/source',
      '--input-type=module-typescript',
      '--eval',
      readmeExample(readme, heading),
    ],
    { cwd: fileURLToPath(new URL('.', readme)), encoding: 'utf8' },
  );
  return { status, stdout, stderr };
}
