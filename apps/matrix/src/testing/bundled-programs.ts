import { mkdtempSync, rmSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { rolldown } from 'rolldown';
import { afterAll } from 'vitest';

/** The programs that the mortality tests start hundreds of times, by name. */
export interface BundledPrograms {
  /** The process of a domain. */
  readonly entry: URL;
  /** Base of the programs' URLs. */
  readonly base: string;
}

const SOURCES = new URL('../mortality/', import.meta.url);
const PROGRAMS = ['process', 'dom0', 'domu', 'driver-domain'];

let made: Promise<BundledPrograms> | undefined;
const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/**
 * The same code as from its hundreds of source files, in a few: a domain then starts in a quarter of the time. Lies below the
 * package, where the native FFI is found, until the test file that imports this has ended.
 */
export function bundlePrograms(): Promise<BundledPrograms> {
  made ??= bundle();
  return made;
}

async function bundle(): Promise<BundledPrograms> {
  const folder = mkdtempSync(fileURLToPath(new URL('../../.cache-', import.meta.url)));
  folders.push(folder);
  const build = await rolldown({
    input: Object.fromEntries(PROGRAMS.map((name) => [name, fileURLToPath(new URL(`${name}.ts`, SOURCES))])),
    platform: 'node',
    external: ['koffi', /^node:/],
    resolve: { conditionNames: ['@virtlab/source', 'node', 'import', 'default'] },
  });
  await build.write({ dir: folder, format: 'esm' });
  await build.close();
  const base = `${pathToFileURL(folder).href}/`;
  return { entry: new URL('process.js', base), base };
}
