import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { RealXenstoredAvailability, RealXenstoredKind } from './contract.ts';

/** Where Debian's packages xen-utils-<version> put their programs. */
const XEN_DIRECTORY = '/usr/lib';

const PROGRAMS: Readonly<Record<RealXenstoredKind, string>> = { c: 'xenstored', oxenstored: 'oxenstored' };

interface InstalledProgram {
  readonly path: string;
  /** Of Xen, such as `4.17`. */
  readonly release: string;
}

/** The program of Debian's newest xen-utils-* that is installed, which libxen*misc* of the same release belongs to. */
export function installedProgram(kind: RealXenstoredKind): InstalledProgram | undefined {
  const releases = existsSync(XEN_DIRECTORY)
    ? readdirSync(XEN_DIRECTORY)
        .filter((name) => /^xen-\d+\.\d+$/.test(name))
        .map((name) => name.slice('xen-'.length))
        .toSorted((a, b) => b.localeCompare(a, 'en', { numeric: true }))
    : [];
  for (const release of releases) {
    const path = join(XEN_DIRECTORY, `xen-${release}`, 'bin', PROGRAMS[kind]);
    if (isExecutable(path)) return { path, release };
  }
  return undefined;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Why the preload library cannot be built here, or `undefined` when it can. */
export function missingForPreload(): string | undefined {
  if (process.platform !== 'linux') return `the preload library is for Linux, this is ${process.platform}`;
  const directories = (process.env['PATH'] ?? '').split(delimiter);
  if (!directories.some((directory) => isExecutable(join(directory, 'gcc')))) {
    return 'needs the Debian package gcc (C compiler for the preload library)';
  }
  if (!existsSync('/usr/include/dlfcn.h')) return 'needs the Debian package libc6-dev (C headers)';
  return undefined;
}

function packageVersion(release: string): string {
  const found = spawnSync('dpkg-query', ['-W', '-f', '${Version}', `xen-utils-${release}`], {
    encoding: 'utf8',
  });
  return found.status === 0 && found.stdout !== '' ? found.stdout : release;
}

const known = new Map<RealXenstoredKind, RealXenstoredAvailability>();

/**
 * Whether Debian's daemon of that kind, gcc and the C headers are installed. Looks once per process. `version` is that of
 * the Debian package, or of Xen where the package manager is another one.
 */
export function realXenstoredAvailability(kind: RealXenstoredKind): RealXenstoredAvailability {
  let availability = known.get(kind);
  if (availability === undefined) {
    availability = look(kind);
    known.set(kind, availability);
  }
  return availability;
}

function look(kind: RealXenstoredKind): RealXenstoredAvailability {
  const program = installedProgram(kind);
  if (program === undefined) {
    return { status: 'missing', reason: `needs the Debian package xen-utils-4.17 (${PROGRAMS[kind]})` };
  }
  const reason = missingForPreload();
  if (reason !== undefined) return { status: 'missing', reason };
  return { status: 'available', version: packageVersion(program.release) };
}
