import { execFile, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { BenchPlan, Contender } from '../contender.ts';

const SOURCE = fileURLToPath(new URL('../../peers/c/ring-pair.c', import.meta.url));
const COMPILE = ['-O2', '-fno-strict-aliasing'];
const TIMEOUT_MS = 60_000;

/** A split ring in C between two processes of its own; see the source. */
export interface CRing {
  /** `args` are the program's own, without the count. */
  contender(args: readonly string[], published: string | undefined): Contender;
}

interface Answer {
  readonly elapsedNs: number;
  readonly cpuNs: number;
  readonly kicks: number;
  readonly calls: number;
}

/**
 * Compiles the program into the plan's folder. Undefined, which the plan is told, without a compiler; throws then if
 * VIRTLAB_REQUIRE_PEERS is 1, and when the program does not compile.
 */
export function compileCRing({ folder, onMissing }: BenchPlan): CRing | undefined {
  const program = join(folder, 'ring-pair');
  const { error, status, stderr } = spawnSync('gcc', [...COMPILE, '-o', program, SOURCE], {
    encoding: 'utf8',
  });
  if (error !== undefined) {
    const reason = 'the ring in C, for which the Debian package gcc is missing';
    if (process.env['VIRTLAB_REQUIRE_PEERS'] === '1')
      throw new Error(`Left out: ${reason}`, { cause: error });
    onMissing(reason);
    return undefined;
  }
  if (status !== 0) throw new Error(`ring-pair.c does not compile: ${stderr}`);
  return {
    contender: (args, published) => ({
      name: 'C',
      isPeer: true,
      published,
      run: async (count) => {
        const { stdout } = await promisify(execFile)(program, [...args, '--count', String(count)], {
          timeout: TIMEOUT_MS,
        });
        const { elapsedNs, cpuNs, kicks, calls } = JSON.parse(stdout) as Answer;
        return { operationCount: count, elapsedNs, cpuNs, doorbells: { kicks, calls } };
      },
    }),
  };
}
