import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../../../../cli/src/main.ts', import.meta.url));

/** A line of a daemon's `--json`. */
export interface DaemonReport {
  readonly event: string;
  readonly [field: string]: unknown;
}

export type DaemonName = 'vhost-user-blk' | 'vhost-user-net' | 'vhost-user-rng';

/** `virtlab` from its sources, serving a device in a process of its own. */
export class Daemon {
  readonly reports: DaemonReport[] = [];
  messages = '';
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;
  #wake: (() => void) | undefined;

  private constructor(name: DaemonName, args: readonly string[]) {
    const words = ['--conditions=@virtlab/source', MAIN, name, '--json', ...args];
    this.#child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#closed = once(this.#child, 'close');
    let rest = '';
    this.#child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop()!;
      this.reports.push(...lines.map((line) => JSON.parse(line) as DaemonReport));
      this.#wake?.();
    });
    this.#child.stderr!.setEncoding('utf8').on('data', (chunk: string) => {
      this.messages += chunk;
    });
    void this.#closed.then(() => this.#wake?.());
  }

  /** Resolves once it listens. */
  static async start(name: DaemonName, ...args: readonly string[]): Promise<Daemon> {
    const daemon = new Daemon(name, args);
    await daemon.heard(({ event }) => event === 'listening');
    return daemon;
  }

  /** The first report of the kind, which may be past or to come. Rejects when the daemon ends without. */
  async heard(isIt: (report: DaemonReport) => boolean): Promise<DaemonReport> {
    for (;;) {
      const found = this.reports.find(isIt);
      if (found !== undefined) return found;
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
        throw new Error(`The daemon ended: ${JSON.stringify(this.reports)} ${this.messages}`);
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      await promise;
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Ends it; resolves with its exit code, or the signal that killed it. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | NodeJS.Signals | null> {
    this.#child.kill(signal);
    await this.#closed;
    return this.#child.exitCode ?? this.#child.signalCode;
  }
}
