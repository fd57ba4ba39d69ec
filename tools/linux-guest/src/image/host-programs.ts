import { spawnSync } from 'node:child_process';
import { readFileSync, realpathSync, statSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { LinuxGuestError } from '../error.ts';
import type { ArchiveMember } from './newc-archive.ts';

/** Also looked at where PATH lacks them: programs of the administrator. */
const SYSTEM_DIRECTORIES: readonly string[] = ['/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** Path of an executable program of this machine, or undefined. */
export function programPath(name: string): string | undefined {
  const directories = [...(process.env['PATH'] ?? '').split(delimiter), ...SYSTEM_DIRECTORIES];
  const paths = name.includes('/')
    ? [name]
    : directories.filter((each) => each !== '').map((each) => join(each, name));
  return paths.find(isExecutableFile);
}

function isExecutableFile(path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat !== undefined && stat.isFile() && (stat.mode & 0o111) !== 0;
}

// ELF-64 (System V ABI, "Program Header").
const PHDR_OFFSET = 0x20;
const PHDR_SIZE = 0x36;
const PHDR_COUNT = 0x38;
const PT_INTERP = 3;
const HEADER_SIZE = 0x40;

/** Whether it is a program for 64-bit Linux that needs no dynamic loader. */
export function isStaticProgram(path: string): boolean {
  const file = readFileSync(path);
  if (file.length < HEADER_SIZE || file.readUInt32BE(0) !== 0x7f454c46 || file[4] !== 2) return false;
  const start = Number(file.readBigUInt64LE(PHDR_OFFSET));
  const size = file.readUInt16LE(PHDR_SIZE);
  for (let index = 0; index < file.readUInt16LE(PHDR_COUNT); index++) {
    if (file.readUInt32LE(start + index * size) === PT_INTERP) return false;
  }
  return true;
}

/**
 * Programs of this machine with the shared libraries that each loads at its start, as members of an archive: programs in
 * `usr/sbin` under their names, libraries where the loader looks for them. Directories are not among the members.
 *
 * Throws LinuxGuestError `missing` and `image`.
 */
export function programMembers(names: readonly string[]): readonly ArchiveMember[] {
  const members = new Map<string, ArchiveMember>();
  for (const name of names) {
    const path = programPath(name);
    if (path === undefined) throw new LinuxGuestError('missing', `no program ${name} on this machine`);
    addFile(members, join('usr/sbin', name.slice(name.lastIndexOf('/') + 1)), path);
    for (const library of isStaticProgram(path) ? [] : libraries(path))
      addFile(members, library.slice(1), library);
  }
  return [...members.values()];
}

function addFile(members: Map<string, ArchiveMember>, path: string, source: string): void {
  members.set(path, { kind: 'file', path, data: readFileSync(realpathSync(source)), mode: 0o755 });
}

/** Absolute paths, by the dynamic loader's own word. */
function libraries(program: string): readonly string[] {
  const { status, stdout, error } = spawnSync('ldd', [program], { encoding: 'utf8', env: { LC_ALL: 'C' } });
  if (status !== 0) {
    throw new LinuxGuestError('image', `ldd cannot say what ${program} needs: ${error?.message ?? stdout}`);
  }
  const paths = [...stdout.matchAll(/(?:=>\s+|^\s+)(\/\S+)\s+\(0x/gm)].map((match) => match[1]!);
  if (stdout.includes('not found'))
    throw new LinuxGuestError('missing', `a library of ${program}: ${stdout.trim()}`);
  return paths;
}

/** All directories above the members, each before what it contains. */
export function parentDirectories(members: readonly ArchiveMember[]): readonly ArchiveMember[] {
  const paths = new Set<string>();
  for (const { path } of members) {
    for (let parent = dirname(path); parent !== '.'; parent = dirname(parent)) paths.add(parent);
  }
  return [...paths].toSorted().map((path) => ({ kind: 'directory', path }));
}
