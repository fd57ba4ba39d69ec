import { type ChildProcess, type StdioOptions, fork } from 'node:child_process';
import { once } from 'node:events';

/** A process of ours that answers one question at a time. It ends when its channel does, so also when this process dies. */
export interface Child extends AsyncDisposable {
  readonly pid: number;
  ask(question: object): Promise<unknown>;
}

const CONDITIONS: readonly string[] = import.meta.url.endsWith('.ts') ? ['--conditions=@virtlab/source'] : [];

/** The URL of a module of this app, given its path without extension. */
export function moduleUrl(path: string): URL {
  return new URL(`./${path}.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url);
}

/** What a worker thread needs to load modules as this process does. */
export const WORKER_OPTIONS: { readonly execArgv: string[] } = { execArgv: [...CONDITIONS] };

/**
 * Starts a module of this app as a process. It finds `fds` from descriptor 4 on and its arguments in `process.argv`.
 * `onNote` gets what it says without being asked.
 */
export function startChild(
  path: string,
  args: readonly string[] = [],
  fds: readonly number[] = [],
  onNote: (note: string) => void = () => {},
): Child {
  const stdio: StdioOptions = ['ignore', 'inherit', 'inherit', 'ipc', ...fds];
  const child = fork(moduleUrl(path), args, { execArgv: [...CONDITIONS], stdio });
  return new ForkedChild(path, child, onNote);
}

class ForkedChild implements Child {
  readonly #path: string;
  readonly #process: ChildProcess;
  readonly #exited: Promise<unknown>;
  #waiting: PromiseWithResolvers<unknown> | undefined;

  constructor(path: string, child: ChildProcess, onNote: (note: string) => void) {
    this.#path = path;
    this.#process = child;
    this.#exited = once(child, 'exit');
    child.on('message', (message) => {
      const { note, ...answer } = message as Answer & { readonly note?: string };
      if (note === undefined) this.#answered(answer);
      else onNote(note);
    });
    child.on('exit', (code, signal) => {
      this.#waiting?.reject(new Error(`${path} ended (${signal ?? code})`));
    });
  }

  get pid(): number {
    return this.#process.pid!;
  }

  async ask(question: object): Promise<unknown> {
    if (this.#waiting !== undefined) throw new TypeError(`${this.#path} was asked before it answered`);
    this.#waiting = Promise.withResolvers();
    this.#process.send(question);
    try {
      return await this.#waiting.promise;
    } finally {
      this.#waiting = undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.connected) this.#process.disconnect();
    await this.#exited;
  }

  #answered({ error, answer }: Answer): void {
    if (error === undefined) this.#waiting?.resolve(answer);
    else this.#waiting?.reject(new Error(`${this.#path}: ${error}`));
  }
}

interface Answer {
  readonly error?: string;
  readonly answer?: unknown;
}

/** Says something to the parent that it did not ask for. */
export function noteToParent(note: string): void {
  process.send?.({ note });
}

/** The other side: answers each question of the parent, and ends with it. */
export function serveParent(answer: (question: unknown) => unknown): void {
  process.on('disconnect', () => process.exit(0));
  process.on('message', (question) => {
    void (async () => {
      try {
        process.send?.({ answer: await answer(question) });
      } catch (error) {
        process.send?.({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) });
      }
    })();
  });
}
