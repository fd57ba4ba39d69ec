/** Compiles and runs the C programs beside this file, which print what Debian's headers say. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A section of a header: `constants`, or a named table of its own. */
export type GoldenTable = Readonly<Record<string, number>>;

/** A C structure: `sizeof`, and `offsetof` of each field. */
export interface GoldenStruct {
  readonly size: number;
  readonly offsets: GoldenTable;
}

/** What one header says. Tables besides `constants` and `structs` are particular to that header. */
export interface GoldenHeader {
  readonly constants: GoldenTable;
  readonly structs?: Readonly<Record<string, GoldenStruct>>;
  readonly [table: string]: GoldenTable | Readonly<Record<string, GoldenStruct>> | undefined;
}

/** The committed file `abi.golden.json`. */
export interface Golden {
  /** Debian packages that the headers came from, with their versions. */
  readonly packages: Readonly<Record<string, string>>;
  readonly headers: Readonly<Record<string, GoldenHeader>>;
}

/** The committed file. */
export const GOLDEN_PATH: URL = new URL('../../../packages/abi/src/abi.golden.json', import.meta.url);

const HEADER_PACKAGES = ['linux-libc-dev', 'libxen-dev'] as const;
const PROGRAMS = ['linux-virtio.c', 'linux-devices.c', 'xen.c'] as const;
const FLAGS = ['-Wall', '-Wextra', '-Werror', '-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__'];

/** Debian packages that are missing here; empty if `emitGolden` can run. */
export function missingPackages(): readonly string[] {
  const compiler = succeeds('gcc', '--version') ? [] : ['gcc'];
  return [...compiler, ...HEADER_PACKAGES.filter((name) => packageVersion(name) === undefined)];
}

/**
 * The upstream series of a package, which decides what its headers hold: `6.1` of `6.1.187-1`.
 * Updates within a series do not change an ABI.
 */
export function series(version: string): string {
  return version.split('.', 2).join('.');
}

/** Versions of the header packages that are installed. */
export function headerPackages(): Readonly<Record<string, string>> {
  return Object.fromEntries(HEADER_PACKAGES.map((name) => [name, packageVersion(name) ?? 'not installed']));
}

/**
 * What the installed headers say.
 * @throws Error if a program does not compile: a header lost a name, or the compiler is missing
 */
export function emitGolden(): Golden {
  const directory = mkdtempSync(join(tmpdir(), 'abi-golden-'));
  try {
    const headers = PROGRAMS.map((program) => compileAndRun(program, join(directory, `${program}.out`)));
    return { packages: headerPackages(), headers: Object.assign({}, ...headers) };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** The text of the committed file. */
export function formatGolden(golden: Golden): string {
  return `${JSON.stringify(golden, null, 1)}\n`;
}

function compileAndRun(program: string, binary: string): Golden['headers'] {
  const source = fileURLToPath(new URL(program, import.meta.url));
  execFileSync('gcc', [...FLAGS, '-o', binary, source], { stdio: ['ignore', 'ignore', 'pipe'] });
  return JSON.parse(execFileSync(binary, { encoding: 'utf8' })) as Golden['headers'];
}

function packageVersion(name: string): string | undefined {
  try {
    const query = ['-W', '-f', '${db:Status-Status} ${Version}', name];
    const [status, version] = execFileSync('dpkg-query', query, { encoding: 'utf8', stdio: 'pipe' }).split(
      ' ',
    );
    return status === 'installed' ? version : undefined;
  } catch {
    return undefined;
  }
}

function succeeds(command: string, ...args: readonly string[]): boolean {
  try {
    execFileSync(command, args, { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
