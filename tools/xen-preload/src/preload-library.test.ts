import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { missingForPreload } from './availability.ts';
import { FLAGS, SOURCE, preloadLibrary } from './preload-library.ts';

const missing = missingForPreload();
const isSkipped = missing !== undefined && process.env['VIRTLAB_REQUIRE_PEERS'] !== '1';
if (isSkipped) console.warn(`skipped: ${missing}`);

describe.skipIf(isSkipped)('the preload library', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'xen-preload-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  it('is built once, by however many at a time, and found again', async () => {
    const cache = join(directory, 'cache');
    const built = await Promise.all([preloadLibrary(directory, cache), preloadLibrary(directory, cache)]);
    expect(new Set(built).size).toBe(1);
    expect(readdirSync(cache)).toEqual([basename(built[0])]);
    const { ino } = statSync(built[0]);
    expect(await preloadLibrary(directory, cache)).toBe(built[0]);
    expect(statSync(built[0]).ino).toBe(ino);
    expect(readdirSync(directory)).toEqual(['cache']);
  });

  it('compiles without a warning', () => {
    const sources = readdirSync(SOURCE).filter((file) => file.endsWith('.c'));
    expect(sources.length).toBeGreaterThan(0);
    for (const source of sources) {
      const parameters = [...FLAGS, '-Werror', '-c', '-o', join(directory, 'object'), join(SOURCE, source)];
      expect(execFileSync('gcc', parameters, { encoding: 'utf8' })).toBe('');
    }
  });

  it('is built beside the daemon where the cache cannot be written', async () => {
    const file = join(directory, 'file');
    writeFileSync(file, '');
    const path = await preloadLibrary(directory, join(file, 'cache'));
    expect(dirname(path)).toBe(directory);
    expect(readdirSync(directory).toSorted()).toEqual(['file', basename(path)]);
  });
});
