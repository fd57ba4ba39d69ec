import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { tied } from '@virtlab/linux';

const MAIN = fileURLToPath(new URL('../../../cli/src/main.ts', import.meta.url));
/** EXIT_TERMINATED of the command. */
const ENDED_IN_ORDER = 143;

/** A line of `--json`. */
interface Report {
  readonly event: string;
  readonly [field: string]: unknown;
}

/** `virtlab vhost-user-net` from its sources, in a process of its own. */
export class NetDaemon {
  readonly reports: Report[] = [];
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;
  #messages = '';
  #wake: (() => void) | undefined;

  private constructor(args: readonly string[]) {
    const words = ['--conditions=@virtlab/source', MAIN, 'vhost-user-net', '--json', ...args];
    this.#child = spawn(...tied(process.execPath, words), {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#closed = once(this.#child, 'close').then(() => this.#wake?.());
    let rest = '';
    this.#child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop()!;
      this.reports.push(...lines.map((line) => JSON.parse(line) as Report));
      this.#wake?.();
    });
    this.#child.stderr!.setEncoding('utf8').on('data', (chunk: string) => {
      this.#messages += chunk;
    });
  }

  /** Resolves once it listens. Rejects with what it wrote if it ends instead. */
  static async start(...args: readonly string[]): Promise<NetDaemon> {
    const daemon = new NetDaemon(args);
    await daemon.heard(({ event }) => event === 'listening');
    return daemon;
  }

  /** A report of the kind, past or to come. */
  async heard(isIt: (report: Report) => boolean): Promise<Report> {
    for (;;) {
      const found = this.reports.find(isIt);
      if (found !== undefined) return found;
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
        throw new Error(`The daemon ended: ${JSON.stringify(this.reports)} ${this.#messages}`);
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
  }

  /** Ends it. Throws if that was not in order. */
  async end(): Promise<void> {
    this.#child.kill('SIGTERM');
    await this.#closed;
    const { exitCode, signalCode } = this.#child;
    if (exitCode === ENDED_IN_ORDER) return;
    throw new Error(`The daemon ended with ${exitCode ?? signalCode}: ${this.#messages}`);
  }
}
