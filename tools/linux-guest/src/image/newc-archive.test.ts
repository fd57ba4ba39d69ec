import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { describeGuests } from '../testing/describe-guests.ts';
import { type ArchiveMember, newcArchive } from './newc-archive.ts';

const MEMBERS: readonly ArchiveMember[] = [
  { kind: 'directory', path: 'etc' },
  { kind: 'file', path: 'etc/odd', data: Buffer.from('three'), mode: 0o640 },
  { kind: 'file', path: 'etc/empty', data: new Uint8Array(), mode: 0o600 },
  { kind: 'link', path: 'etc/link', target: 'odd' },
  { kind: 'character-device', path: 'console', major: 5, minor: 1 },
];

describe('newcArchive', () => {
  it('is the same for the same members, and a multiple of four bytes', () => {
    expect(newcArchive(MEMBERS)).toEqual(newcArchive(MEMBERS));
    expect(newcArchive(MEMBERS).length % 4).toBe(0);
  });
});

describeGuests('an archive', () => {
  it('is read by cpio of busybox as it was meant', () => {
    const input = newcArchive(MEMBERS);
    const { stdout, status } = spawnSync('busybox', ['cpio', '-itv'], { input, encoding: 'utf8' });
    expect(status).toBe(0);
    const listed = stdout.trim().split('\n');
    const expected = [
      /^drwxr-xr-x 0\/0 .* etc$/,
      /^-rw-r----- 0\/0 +5 .* etc\/odd$/,
      /^-rw------- 0\/0 +0 .* etc\/empty$/,
      /^lrwxrwxrwx 0\/0 .* etc\/link -> odd$/,
      /^crw------- 0\/0 .* console$/,
    ];
    expect(listed).toEqual(expected.map((line) => expect.stringMatching(line)));
  });
});
