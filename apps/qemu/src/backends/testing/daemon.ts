import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { tied } from '@virtlab/linux';

const MAIN = fileURLToPath(new URL('../../../../cli/src/main.ts', import.meta.url));

/** For a report; on a machine that may be busy with others. */
const LIMIT_MS = 60_000;

/** A line of a daemon's `--json`. */
export interface DaemonReport {
  readonly event: string;
  readonly [field: string]: unknown;
}

export type DaemonName = 'vhost-user-blk' | 'vhost-user-net' | 'vhost-user-rng';

/** `virtlab` from its sources, serving a device in a process of its own, which goes with the suite's: a hook that fails ends no other. */
export class Daemon {
  readonly reports: DaemonReport[] = [];
  messages = '';
  /** Said by tests that bring a warning about. */
  mayWarn = false;
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;
  #waiting: (() => void)[] = [];

  private constructor(name: DaemonName, args: readonly string[]) {
    const words = ['--conditions=@virtlab/source', MAIN, name, '--json', ...args];
    this.#child = spawn(...tied(process.execPath, words), { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#closed = once(this.#child, 'close');
    let rest = '';
    this.#child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop()!;
      this.reports.push(...lines.map((line) => JSON.parse(line) as DaemonReport));
      this.#wake();
    });
    this.#child.stderr!.setEncoding('utf8').on('data', (chunk: string) => {
      this.messages += chunk;
    });
    void this.#closed.then(() => this.#wake());
  }

  /** Resolves once it listens. */
  static async start(name: DaemonName, ...args: readonly string[]): Promise<Daemon> {
    const daemon = new Daemon(name, args);
    await daemon.heard(({ event }) => event === 'listening');
    return daemon;
  }

  /** The first report of the kind, which may be past or to come. Rejects when the daemon ends without, or says nothing for long. */
  async heard(isIt: (report: DaemonReport) => boolean): Promise<DaemonReport> {
    const timer = setTimeout(() => this.#wake(), LIMIT_MS);
    const until = performance.now() + LIMIT_MS;
    try {
      return await this.#heard(isIt, until);
    } finally {
      clearTimeout(timer);
    }
  }

  async #heard(isIt: (report: DaemonReport) => boolean, untilMs: number): Promise<DaemonReport> {
    for (;;) {
      const found = this.reports.find(isIt);
      if (found !== undefined) return found;
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) {
        throw new Error(`The daemon ended: ${this.#story}`);
      }
      if (performance.now() >= untilMs) throw new Error(`Not heard in ${LIMIT_MS} ms: ${this.#story}`);
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  get warnings(): readonly unknown[] {
    return this.reports.filter(({ event }) => event === 'warning').map(({ message }) => message);
  }

  get #story(): string {
    return `${JSON.stringify(this.reports)} ${this.messages}`;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Ends it; resolves with its exit code, or the signal that killed it. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | NodeJS.Signals | null> {
    this.#child.kill(signal);
    // One that does not end shows by what it was killed with.
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), LIMIT_MS);
    await this.#closed;
    clearTimeout(timer);
    return this.#child.exitCode ?? this.#child.signalCode;
  }
}
