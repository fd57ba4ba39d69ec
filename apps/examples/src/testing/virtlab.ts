import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { tied } from '@virtlab/linux';

const MAIN = fileURLToPath(new URL('../../../cli/src/main.ts', import.meta.url));

/** The command `virtlab` as words of a shell: from its sources. */
export function virtlabCommand(): string {
  return [process.execPath, '--conditions=@virtlab/source', MAIN].map((word) => `'${word}'`).join(' ');
}

/** A process that serves a device until it is ended. */
export class ServingProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  #output = '';

  private constructor(args: readonly string[]) {
    const words = ['--conditions=@virtlab/source', ...args];
    this.#child = spawn(...tied(process.execPath, words), { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => (this.#output += text));
    }
  }

  /** `virtlab` with these arguments. Resolves when it has said on its standard output that it listens. */
  static async virtlab(...args: readonly string[]): Promise<ServingProcess> {
    return await ServingProcess.start(MAIN, ...args);
  }

  static async start(file: string, ...args: readonly string[]): Promise<ServingProcess> {
    const serving = new ServingProcess([file, ...args]);
    const ended = once(serving.#child, 'close').then(() => {
      throw new Error(`${file} ended: ${serving.#output}`);
    });
    ended.catch(() => undefined);
    await Promise.race([once(serving.#child.stdout!, 'data'), ended]);
    return serving;
  }

  /** What it wrote. */
  get output(): string {
    return this.#output;
  }

  /** Ends it in order; resolves with its exit code, or the signal that killed it. */
  async end(): Promise<number | NodeJS.Signals | null> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return this.#child.exitCode;
    this.#child.kill('SIGTERM');
    await once(this.#child, 'close');
    return this.#child.exitCode ?? this.#child.signalCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }
}
