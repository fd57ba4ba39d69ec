import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tied } from '@virtlab/linux';
import { type TestpmdOptions, testpmdArguments } from './testpmd-options.ts';
import {
  type ForwardStatistics,
  type PortStatistics,
  parseForwardStatistics,
  parsePortStatistics,
} from './testpmd-statistics.ts';

export const TESTPMD_COMMAND = 'dpdk-testpmd';
/** testpmd prints to a pipe only when a buffer of it is full. */
const BY_LINE: readonly string[] = ['-oL', TESTPMD_COMMAND];
const PROMPT = 'testpmd> ';
const START_TIMEOUT_MS = 15_000;
const COMMAND_TIMEOUT_MS = 10_000;
const QUIT_TIMEOUT_MS = 5000;
const ASK_EVERY_MS = 2;

/** DPDK's testpmd at its prompt, in a process of its own. It leaves no files. */
export class Testpmd implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;
  readonly #folder: string;
  readonly #sockets: readonly string[];
  #output = '';
  #log = '';
  #wake: (() => void) | undefined;
  /** Commands follow one another. */
  #turn: Promise<unknown> = Promise.resolve();

  /** Use `startTestpmd`. */
  constructor(options: TestpmdOptions) {
    this.#folder = mkdtempSync(join(tmpdir(), 'virtlab-testpmd-'));
    this.#sockets = options.ports.filter(({ kind }) => kind === 'net_vhost').map(({ path }) => path);
    // What one that was killed has left would keep the next from listening, which it would not tell.
    for (const path of this.#sockets) rmSync(path, { force: true });
    const words = [...BY_LINE, ...testpmdArguments(options, 'virtlab')];
    this.#child = spawn(...tied('stdbuf', words), {
      env: { ...process.env, RUNTIME_DIRECTORY: this.#folder, LC_ALL: 'C' },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.#closed = once(this.#child, 'close').then(() => {
      rmSync(this.#folder, { recursive: true, force: true });
      this.#wake?.();
    });
    this.#child.stdin!.on('error', () => {});
    this.#child.stdout!.setEncoding('latin1').on('data', (chunk: string) => {
      this.#output += chunk;
      this.#wake?.();
    });
    this.#child.stderr!.setEncoding('latin1').on('data', (chunk: string) => {
      this.#log += chunk;
      this.#wake?.();
    });
  }

  get pid(): number {
    return this.#child.pid!;
  }
  /** What EAL and the libraries wrote, also about the vhost-user protocol. */
  get log(): string {
    return this.#log;
  }
  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Resolves at the first prompt. Rejects with what it wrote if that does not come. */
  async ready(): Promise<void> {
    await this.#until(() => this.#output.includes(PROMPT), 'start', START_TIMEOUT_MS);
    // EAL makes a folder in it when it starts and, without shared configuration, never looks there again.
    rmSync(this.#folder, { recursive: true, force: true });
    const absent = this.#sockets.find((path) => !existsSync(path));
    if (absent !== undefined) throw new Error(`testpmd does not listen at ${absent}: ${this.#said}`);
  }

  /** Resolves when the pattern is in `log`, which it may be already. */
  async logged(pattern: RegExp, timeoutMs: number = COMMAND_TIMEOUT_MS): Promise<void> {
    await this.#until(() => pattern.test(this.#log), `log ${pattern}`, timeoutMs);
  }

  /** Types a line at the prompt; resolves with what is printed until the next one. Rejects with that if there is none in time. */
  async command(line: string, timeoutMs: number = COMMAND_TIMEOUT_MS): Promise<string> {
    const before = this.#turn;
    const own = (async () => {
      await before;
      this.#output = '';
      this.#child.stdin!.write(`${line}\n`);
      await this.#until(() => this.#output.includes(PROMPT), line, timeoutMs);
      return this.#output.slice(0, this.#output.indexOf(PROMPT));
    })();
    this.#turn = own.catch(() => undefined);
    return await own;
  }

  /** Begins to forward. */
  async start(): Promise<void> {
    await this.command('start');
  }

  /** Stops forwarding. */
  async stop(): Promise<ForwardStatistics[]> {
    return parseForwardStatistics(await this.command('stop'));
  }

  async portStatistics(): Promise<PortStatistics[]> {
    return parsePortStatistics(await this.command('show port stats all'));
  }

  /** Asks until the counters of each port are such. Rejects with them if they are not in time. */
  async counted(
    isEnough: (port: PortStatistics) => boolean,
    timeoutMs: number = COMMAND_TIMEOUT_MS,
  ): Promise<PortStatistics[]> {
    const until = performance.now() + timeoutMs;
    for (;;) {
      const ports = await this.portStatistics();
      if (ports.every(isEnough)) return ports;
      if (performance.now() > until) throw new Error(`testpmd has counted only ${JSON.stringify(ports)}`);
      await new Promise((resolve) => void setTimeout(resolve, ASK_EVERY_MS));
    }
  }

  async clearPortStatistics(): Promise<void> {
    await this.command('clear port stats all');
  }

  /** Leaves by the prompt; resolves with the exit code. Rejects if it has to be killed. */
  async quit(): Promise<number | null> {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), QUIT_TIMEOUT_MS);
    this.#child.stdin!.end('quit\n');
    await this.#closed;
    clearTimeout(timer);
    if (this.#child.signalCode !== null) {
      throw new Error(`testpmd did not quit (${this.#child.signalCode}): ${this.#said}`);
    }
    return this.#child.exitCode;
  }

  /** Ends it as if it had crashed. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#closed;
  }

  /** Kills it if it is still there. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  get #said(): string {
    return `${this.#log}${this.#output}`.slice(-4000);
  }

  async #until(isThere: () => boolean, what: string, timeoutMs: number): Promise<void> {
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.#wake?.();
    }, timeoutMs);
    while (!isThere()) {
      if (isLate || !this.isRunning) {
        clearTimeout(timer);
        const why = isLate ? `no answer in ${timeoutMs} ms` : 'it ended';
        throw new Error(`testpmd, ${what}: ${why}: ${this.#said}`);
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
    clearTimeout(timer);
  }
}

/**
 * Starts testpmd and waits for its prompt. A `net_vhost` port then listens; a `net_virtio_user` port has shaken hands, so its
 * device must be served while this waits. Rejects with what it wrote when it does not come so far.
 */
export async function startTestpmd(options: TestpmdOptions): Promise<Testpmd> {
  const testpmd = new Testpmd(options);
  try {
    await testpmd.ready();
    return testpmd;
  } catch (error) {
    await testpmd.kill();
    throw error;
  }
}
