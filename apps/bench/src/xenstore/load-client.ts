import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const SOURCE = fileURLToPath(new URL('../../peers/c/xenstore-load.c', import.meta.url));
const RUN_TIMEOUT_MS = 120_000;

/** One operation on one connection, a number of times; see the source. */
export type AskOperation = 'read' | 'write' | 'start' | 'transaction';

/** What a run of the client came to. Times in nanoseconds; the processor time is the client's own. */
export interface LoadResult {
  readonly operationCount: number;
  readonly elapsedNs: number;
  readonly cpuNs: number;
  /** Of `crowd`: requests of the connection that was served least, and most. */
  readonly servedMin: number;
  readonly servedMax: number;
}

/** A client that goes on existing without asking for anything, or a server that does nothing but answer. */
export interface LoadHolder extends AsyncDisposable {
  readonly pid: number;
}

/** The client in C that all daemons are asked by, so that its own cost is the same for each and small. */
export class LoadClient {
  readonly #program: string;

  /** `program` is what `compileLoadClient` made. */
  constructor(program: string) {
    this.#program = program;
  }

  /** `depth` operations under way at once. */
  ask(path: string, what: AskOperation, depth: number, count: number): Promise<LoadResult> {
    return this.#run('ask', path, what, depth, count);
  }

  /** Writes by one connection, each heard by `watchCount` watches of another. */
  events(path: string, watchCount: number, depth: number, count: number): Promise<LoadResult> {
    return this.#run('events', path, watchCount, depth, count);
  }

  /** One request at a time, each on the next connection. */
  turns(path: string, connectionCount: number, count: number): Promise<LoadResult> {
    return this.#run('turns', path, connectionCount, count);
  }

  /** Every connection always has a request under way. */
  crowd(path: string, connectionCount: number, count: number): Promise<LoadResult> {
    return this.#run('crowd', path, connectionCount, count);
  }

  /** Writes nodes number `first` to `end - 1`; the other operations use the first ones. */
  fill(path: string, first: number, end: number): Promise<LoadResult> {
    return this.#run('fill', path, first, end);
  }

  /** Idle connections with so many watches each, on nothing that is ever written. */
  hold(path: string, connectionCount: number, watchCount: number): Promise<LoadHolder> {
    return this.#start('hold', path, connectionCount, watchCount);
  }

  /** Listens on `path`, and sends back what comes. */
  echo(path: string): Promise<LoadHolder> {
    return this.#start('echo', path);
  }

  async #run(...parameters: readonly (string | number)[]): Promise<LoadResult> {
    const options = { timeout: RUN_TIMEOUT_MS };
    const { stdout } = await promisify(execFile)(this.#program, parameters.map(String), options);
    return JSON.parse(stdout) as LoadResult;
  }

  async #start(...parameters: readonly (string | number)[]): Promise<LoadHolder> {
    const child = spawn(this.#program, parameters.map(String), { stdio: ['pipe', 'pipe', 'inherit'] });
    const [outcome] = (await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])) as unknown[];
    if (typeof outcome === 'number')
      throw new Error(`xenstore-load ${parameters.join(' ')} ended (${outcome})`);
    return { pid: child.pid!, [Symbol.asyncDispose]: () => endOf(child) };
  }
}

async function endOf(child: ChildProcess): Promise<void> {
  const exited = once(child, 'exit');
  child.kill();
  await exited;
}

/**
 * Why there can be no client on this machine; undefined if there can. Throws instead if VIRTLAB_REQUIRE_PEERS is 1.
 */
export function loadClientMissing(): string | undefined {
  const { error } = spawnSync('gcc', ['--version'], { stdio: 'ignore' });
  if (error === undefined) return undefined;
  const reason = 'its client is in C, for which the Debian package gcc is missing';
  if (process.env['VIRTLAB_REQUIRE_PEERS'] === '1') throw new Error(`Skipped: ${reason}`, { cause: error });
  return reason;
}

/** Compiles the client into `folder`. Throws when it does not compile. */
export function compileLoadClient(folder: string): LoadClient {
  const program = join(folder, 'xenstore-load');
  const { status, stderr } = spawnSync('gcc', ['-O2', '-o', program, SOURCE], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`xenstore-load.c does not compile: ${stderr}`);
  return new LoadClient(program);
}
