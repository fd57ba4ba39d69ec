import { type Stats, statSync } from 'node:fs';
import { StartError } from '../start-error.ts';

/** What is at a path that the user gave; undefined for nothing. Throws `StartError` where this user cannot know. */
export function statPath(option: string, path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new StartError('usage', `${option}: what is at ${path} cannot be seen (${code})`);
  }
}
