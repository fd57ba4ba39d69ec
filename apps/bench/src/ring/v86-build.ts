/**
 * The text of v86, as published and without its logging. The published build formats five words of every descriptor as hexadecimal strings for a log line that its compiler then
 * removed: only the arguments are left. `withoutLogging` takes those five calls out of the text and nothing else,
 * which gives the virtqueue as its source has it. Pinned to one version, and fails when the text is not the one that was read.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { V86 } from 'v86';

const VERSION = '0.5.462+g5f9a90f';
/** What is left of the log line, in this order; the compiler may break the line before a digit. */
const WORDS = [
  ['addr_high', 8],
  ['addr_low', 8],
  ['len', 8],
  ['flags', 4],
  ['next', 4],
] as const;
const LEFT_OVER = new RegExp(
  WORDS.map(([word, digits]) => `y\\(h\\.${word},\\s*${digits}\\);`).join('\\s*'),
  'g',
);

export interface V86Module {
  readonly V86: typeof V86;
}

/**
 * Loads a build of v86 of its own: the engine optimizes each for what it is used for. `change` is made to the text first. The
 * copy is written into `folder`. Throws if the package is not the one that this was written for.
 */
export async function importV86(
  folder: string,
  name: string,
  change: (text: string) => string = (text) => text,
): Promise<V86Module> {
  const entry = fileURLToPath(import.meta.resolve('v86'));
  const { version } = JSON.parse(readFileSync(join(entry, '../../package.json'), 'utf8')) as {
    version: string;
  };
  if (version !== VERSION) throw new Error(`v86 is ${version}: its logging is known of ${VERSION} only`);
  const path = join(folder, `v86-${name}.mjs`);
  writeFileSync(path, change(readFileSync(entry, 'utf8')));
  return (await import(pathToFileURL(path).href)) as V86Module;
}

/** Throws unless the five calls stand in the text exactly once. */
export function withoutLogging(text: string): string {
  const found = [...text.matchAll(LEFT_OVER)];
  if (found.length !== 1) throw new Error(`The log line of v86's virtqueue was found ${found.length} times`);
  return text.replace(LEFT_OVER, '');
}
