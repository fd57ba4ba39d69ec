import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makePrivateFolder } from './private-folder.ts';

let parent = '';
let folder = '';
beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'virtlab-'));
  folder = join(parent, 'private');
});
afterEach(() => rmSync(parent, { recursive: true }));

const NOBODY = 65_534;

describe('the directory of --switch', () => {
  it('is made for its user alone, and taken again', () => {
    const umask = process.umask(0);
    for (let round = 0; round < 2; round += 1) makePrivateFolder('--switch x', folder);
    process.umask(umask);
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    chmodSync(folder, 0o755);
    expect(() => makePrivateFolder('--switch x', folder)).not.toThrow();
  });

  const refused: readonly (readonly [what: string, make: () => void])[] = [
    ['into which its group can write', () => (mkdirSync(folder), chmodSync(folder, 0o720))],
    ['into which everybody can write', () => (mkdirSync(folder), chmodSync(folder, 0o702))],
    ['that is a link to one', () => (mkdirSync(`${folder}.other`), symlinkSync(`${folder}.other`, folder))],
    ['that is a link to nothing', () => symlinkSync('nothing', folder)],
    ['that is a file', () => writeFileSync(folder, '')],
    [
      'below a file',
      () => (writeFileSync(join(parent, 'file'), ''), (folder = join(parent, 'file/private'))),
    ],
  ];
  it.each(refused)('is refused one %s', (_, make) => {
    make();
    expect(() => makePrivateFolder('--switch x', folder)).toThrow(
      expect.objectContaining({
        name: 'StartError',
        kind: 'usage',
        message: expect.stringContaining(folder),
      }),
    );
  });

  it.skipIf(process.geteuid!() !== 0)("is refused another user's (needs root)", () => {
    mkdirSync(folder, { mode: 0o700 });
    chownSync(folder, NOBODY, NOBODY);
    expect(() => makePrivateFolder('--switch x', folder)).toThrow(
      expect.objectContaining({ name: 'StartError', kind: 'usage' }),
    );
  });
});
