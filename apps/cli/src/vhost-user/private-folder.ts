import { lstatSync, mkdirSync } from 'node:fs';
import { StartError } from '../start-error.ts';

const WRITABLE_BY_OTHERS = 0o022;

/**
 * Makes a directory for this user alone, where it may have a name that others can guess: whoever could write into one that was there
 * already could answer at the sockets in it. Throws `StartError` unless it is a directory, no link to one, of this user, and
 * nobody else can write to it.
 */
export function makePrivateFolder(option: string, folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const found = lstatSync(folder);
    const isPrivate =
      found.isDirectory() && found.uid === process.geteuid!() && (found.mode & WRITABLE_BY_OTHERS) === 0;
    if (isPrivate) return;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new StartError('usage', `${option}: there can be no directory ${folder} (${code})`);
  }
  throw new StartError(
    'usage',
    `${option}: ${folder} is no directory of this user's into which nobody else can write`,
  );
}
