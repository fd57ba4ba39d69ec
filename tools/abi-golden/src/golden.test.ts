import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  GOLDEN_PATH,
  type Golden,
  emitGolden,
  formatGolden,
  headerPackages,
  missingPackages,
  series,
} from './golden.ts';

const committed = JSON.parse(readFileSync(GOLDEN_PATH, 'utf8')) as Golden;

/** Why the headers of this machine cannot be compared with the committed file; undefined if they can. */
function obstacle(): string | undefined {
  const missing = missingPackages();
  if (missing.length > 0) return `Debian packages missing: ${missing.join(', ')}`;
  if (process.arch !== 'x64') return `the committed file is for x86_64, this machine is ${process.arch}`;
  const other = Object.entries(headerPackages()).filter(
    ([name, version]) => series(version) !== series(committed.packages[name] ?? ''),
  );
  if (other.length === 0) return undefined;
  return `other series than committed: ${other.map(([name, version]) => `${name} ${version}`).join(', ')}`;
}

describe('committed golden file', () => {
  it('equals what the installed headers say', ({ skip }) => {
    const reason = obstacle();
    if (reason !== undefined) {
      if (process.env['VIRTLAB_REQUIRE_PEERS'] === '1') throw new Error(reason);
      console.warn(`not compared: ${reason}`); // reporters do not print the reason of a skip
      skip(reason);
    }
    expect(emitGolden().headers).toEqual(committed.headers);
  });

  it('stands in the form in which it is written', () => {
    expect(readFileSync(GOLDEN_PATH, 'utf8')).toBe(formatGolden(committed));
  });

  it('is not empty in any part', () => {
    const empty = Object.entries(committed.headers).flatMap(([header, tables]) =>
      Object.entries(tables)
        .filter(([, table]) => Object.keys(table!).length === 0)
        .map(([name]) => `${header} ${name}`),
    );
    expect(empty).toEqual([]);
  });
});

describe('series', () => {
  it('is the first two numbers of a Debian version', () => {
    expect(series('6.1.187-1')).toBe('6.1');
    expect(series('4.17.5+72-g01140da4e8-1')).toBe('4.17');
  });
});
