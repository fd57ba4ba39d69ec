import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { RealXenstoredError } from './error.ts';

export const SOURCE: string = join(import.meta.dirname, '..', 'c');
const CACHE = join(import.meta.dirname, '..', '.cache');

/** `_FORTIFY_SOURCE` (a default elsewhere than in Debian) makes inline functions of those that are replaced. */
export const FLAGS: readonly string[] = [
  '-shared',
  '-fPIC',
  '-O2',
  '-std=gnu11',
  '-Wall',
  '-Wextra',
  '-fvisibility=hidden',
  '-U_FORTIFY_SOURCE',
];

/**
 * Path of the compiled preload library. Built at the first call with these sources and kept in `cache`, by default the
 * package's `.cache`; where that cannot be written, built into `directory`. Any number of processes may build it at once: a
 * finished file is renamed.
 *
 * Rejects with RealXenstoredError `compile`.
 */
export async function preloadLibrary(directory: string, cache: string = CACHE): Promise<string> {
  const files = readdirSync(SOURCE).toSorted();
  const hash = createHash('sha256').update([process.arch, ...FLAGS].join(' '));
  for (const file of files) hash.update(readFileSync(join(SOURCE, file)));
  const name = `xen-preload-${hash.digest('hex').slice(0, 16)}.so`;

  const cached = join(cache, name);
  if (existsSync(cached)) return cached;
  const place = isWritable(cache) ? cache : directory;
  const unfinished = join(place, `${randomUUID()}.so`);
  try {
    const sources = files.filter((file) => file.endsWith('.c')).map((file) => join(SOURCE, file));
    await compile([...FLAGS, '-o', unfinished, ...sources, '-ldl']);
    renameSync(unfinished, join(place, name));
  } finally {
    rmSync(unfinished, { force: true });
  }
  return join(place, name);
}

function isWritable(path: string): boolean {
  try {
    mkdirSync(path, { recursive: true });
    const probe = join(path, randomUUID());
    mkdirSync(probe);
    rmSync(probe, { recursive: true });
    return true;
  } catch {
    return false;
  }
}

function compile(parameters: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile('gcc', parameters, { timeout: 60_000 }, (error, _stdout, stderr) => {
      if (error === null) resolve();
      else reject(new RealXenstoredError('compile', `gcc: ${stderr === '' ? error.message : stderr}`));
    });
  });
}
