import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const MAIN: string = fileURLToPath(new URL('../main.ts', import.meta.url));
const SOURCE_ARGS: readonly string[] = ['--conditions=@virtlab/source', MAIN];

/** How a process ended and what it wrote; one character per byte. */
export interface Run {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export type Environment = Readonly<Record<string, string>>;

function environment(more: Environment): NodeJS.ProcessEnv {
  const {
    XENSTORED_PATH: _path,
    XENSTORED_RUNDIR: _directory,
    FORCE_COLOR: _colour,
    ...others
  } = process.env;
  return { ...others, NO_COLOR: '1', ...more };
}

/** Starts `virtlab` from its sources. */
export function startVirtlab(args: readonly string[], env: Environment = {}): ChildProcess {
  return startProgram(process.execPath, [...SOURCE_ARGS, ...args], env);
}

/** `virtlab` from its sources as a word of a shell. */
export function commandLine(): string {
  return [process.execPath, ...SOURCE_ARGS].map((word) => `'${word}'`).join(' ');
}

export function startProgram(program: string, args: readonly string[], env: Environment = {}): ChildProcess {
  return spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env: environment(env) });
}

/** Resolves when the process has ended and its output is complete. */
export function finish(child: ChildProcess): Promise<Run> {
  const text = { stdout: '', stderr: '' };
  child.stdout!.setEncoding('latin1').on('data', (chunk: string) => (text.stdout += chunk));
  child.stderr!.setEncoding('latin1').on('data', (chunk: string) => (text.stderr += chunk));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal, ...text }));
  });
}

/** A command that talks to the daemon at `socketPath`. */
export function virtlabAt(socketPath: string, ...args: readonly string[]): Promise<Run> {
  return finish(startVirtlab(args, { XENSTORED_PATH: socketPath }));
}

export function programAt(socketPath: string, program: string, ...args: readonly string[]): Promise<Run> {
  return finish(startProgram(program, args, { XENSTORED_PATH: socketPath }));
}

/** Resolves with the first `lineCount` lines of the standard output, or with fewer if it ends. */
export function lines(child: ChildProcess, lineCount: number): Promise<string[]> {
  return new Promise((resolve, reject) => {
    let text = '';
    const check = (isOver: boolean): void => {
      const found = text.split('\n').slice(0, -1);
      if (isOver || found.length >= lineCount) resolve(found);
    };
    child.stdout!.on('data', (chunk: Buffer | string) => {
      text += chunk.toString();
      check(false);
    });
    child.once('error', reject);
    child.once('close', () => check(true));
  });
}

/** A daemon that `virtlab xenstored` runs. */
export interface DaemonUnderTest {
  readonly socketPath: string;
  readonly child: ChildProcess;
  /** What it has written and how it ended, when it has. */
  readonly run: Promise<Run>;
  /** Sends the signal and waits for the end. */
  end(signal?: NodeJS.Signals): Promise<Run>;
}

/** Starts a daemon and waits until it says that it is ready; throws what it said if it ends instead. */
export async function startDaemon(args: readonly string[], env: Environment = {}): Promise<DaemonUnderTest> {
  const child = startVirtlab(['xenstored', '--json', ...args], env);
  const run = finish(child);
  const [line] = await lines(child, 1);
  if (line === undefined) throw new Error(`the daemon ended: ${JSON.stringify(await run)}`);
  const { socketPath } = JSON.parse(line) as { socketPath: string };
  return {
    socketPath,
    child,
    run,
    end: (signal = 'SIGTERM') => {
      child.kill(signal);
      return run;
    },
  };
}

/** A foreign program, whether it is there, and what to install if not. */
export interface Peer {
  readonly missing: boolean;
  /** Appended to a title, so that the list of skipped tests says why. */
  readonly note: string;
}

/** Throws if the program is missing and peers are required. */
export function needs(program: string, debianPackage: string): Peer {
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  const missing = !folders.some((folder) => existsSync(join(folder, program))) && !existsSync(program);
  const reason = `${program} is missing: install Debian's ${debianPackage}`;
  if (missing && process.env['VIRTLAB_REQUIRE_PEERS'] === '1') throw new Error(reason);
  return { missing, note: missing ? ` (${reason})` : '' };
}

export interface ExecOutput {
  readonly status: number;
  readonly output: string;
}

/** Runs a shell script to its end. */
export function shell(script: string, cwd: string, env: Environment = {}): Promise<ExecOutput> {
  return new Promise((resolve) => {
    execFile('bash', ['-c', script], { cwd, env: environment(env) }, (error, stdout, stderr) => {
      const status = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ status, output: stdout + stderr });
    });
  });
}
