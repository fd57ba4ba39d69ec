import { fstatSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { StartError } from '../start-error.ts';
import type { Place } from './daemon-plan.ts';
import { statPath } from './stat-path.ts';

/** `sun_path` with its NUL, unix(7). */
const SOCKET_PATH_SIZE_MAX = 107;

/** The places of `--socket-path` and `--fd`. Throws `StartError` for what cannot be one. */
export function placesOf(
  socketPaths: readonly string[] = [],
  fd: number | undefined,
  countMax: number,
  name: string,
): Place[] {
  if ((fd === undefined) === (socketPaths.length === 0)) {
    throw new StartError('usage', 'give --socket-path, or --fd');
  }
  if (fd !== undefined) {
    checkSocketFd(fd);
    return [{ fd }];
  }
  if (socketPaths.length > countMax) {
    throw new StartError('usage', `${name} serves ${countMax} sockets at most, not ${socketPaths.length}`);
  }
  for (const path of socketPaths) checkSocketPath('--socket-path', path);
  const paths = socketPaths.map((path) => resolve(path));
  const twice = givenTwice(paths);
  if (twice !== undefined) throw new StartError('usage', `--socket-path ${twice} is given twice`);
  return paths.map((socketPath) => ({ socketPath }));
}

export function checkSocketPath(option: string, path: string): void {
  const size = Buffer.byteLength(resolve(path));
  if (size > SOCKET_PATH_SIZE_MAX) {
    const message = `${option} ${path}: ${size} bytes are more than a socket's path can have (${SOCKET_PATH_SIZE_MAX})`;
    throw new StartError('usage', message);
  }
  checkFolder(option, path);
}

export function checkFolder(option: string, path: string): void {
  const folder = dirname(resolve(path));
  if (statPath(`${option} ${path}`, folder)?.isDirectory() !== true) {
    throw new StartError('usage', `${option} ${path}: there is no directory ${folder}`);
  }
}

/** One of several absolute paths, in directories that are there, that is another's place as well, by whatever name. */
export function givenTwice(paths: readonly string[]): string | undefined {
  const real = paths.map((path) => join(realpathSync(dirname(path)), basename(path)));
  return paths.find((_, index) => real.indexOf(real[index]!) !== index);
}

function checkSocketFd(fd: number): void {
  try {
    if (fstatSync(fd).isSocket()) return;
  } catch {
    throw new StartError('usage', `--fd ${fd} is not open`);
  }
  throw new StartError('usage', `--fd ${fd} is no socket`);
}
