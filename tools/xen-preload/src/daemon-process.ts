import { type ChildProcess, spawn } from 'node:child_process';
import type { Duplex } from 'node:stream';
import type { DaemonCommand } from './daemon-command.ts';
import { RealXenstoredError } from './error.ts';

/** File descriptor of the event socket in the daemon, the first after the standard ones. */
const EVENTS_FD = 3;
const START_TIMEOUT_MS = 10_000;
/** After that it is killed, stopped by a debugger for instance. */
const END_TIMEOUT_MS = 2_000;
/** Characters of the daemon's standard error that are kept, the last ones. */
const MESSAGES_LIMIT = 1 << 20;

export interface DaemonProcessOptions {
  readonly program: string;
  readonly command: DaemonCommand;
  readonly library: string;
  readonly directory: string;
}

/** The daemon's process and what it wrote. Nothing of it goes to the standard output or error of this process. */
export class DaemonProcess {
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  readonly #ready: PromiseWithResolvers<void> = Promise.withResolvers();
  readonly events: Duplex;
  #messages = '';
  #hasEnded = false;

  constructor(options: DaemonProcessOptions) {
    this.#child = spawn(options.program, options.command.parameters, {
      cwd: options.directory,
      env: environment(options),
      stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    });
    this.events = this.#child.stdio[EVENTS_FD] as Duplex;
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#messages = (this.#messages + text).slice(-MESSAGES_LIMIT);
    });
    this.#ended = this.#watchEnd(options.program);
    this.#ready.promise.catch(() => undefined); // it may fail before anybody waits
  }

  /** 0 when it could not be started. */
  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get messages(): string {
    return this.#messages;
  }

  /** The daemon said that it serves. */
  markReady(): void {
    this.#ready.resolve();
  }

  /** Rejects with `exited` when the daemon ends first, or does not serve in 10 s. */
  async untilReady(): Promise<void> {
    const timer = setTimeout(() => {
      this.#ready.reject(this.#error(`does not serve after ${START_TIMEOUT_MS / 1000} s`));
    }, START_TIMEOUT_MS);
    try {
      await this.#ready.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Ends it at once; it has no state to save. The preload library removes the directory, so that it is gone even if this
   * process is killed now. Resolves when the process is gone and its output was read.
   */
  async end(): Promise<void> {
    if (this.#hasEnded) return;
    this.#child.kill('SIGUSR2');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), END_TIMEOUT_MS);
    await this.#ended;
    clearTimeout(timer);
  }

  #watchEnd(program: string): Promise<void> {
    return new Promise((resolve) => {
      const end = (how: string): void => {
        this.#hasEnded = true;
        this.#ready.reject(this.#error(how));
        resolve();
      };
      this.#child.once('error', (error) => {
        if (this.#child.pid === undefined) end(`cannot start ${program}: ${error.message}`);
      });
      this.#child.once('close', (status, signal) => end(`ended (${signal ?? `status ${status}`})`));
    });
  }

  #error(how: string): RealXenstoredError {
    const messages = this.#messages.trim();
    return new RealXenstoredError('exited', `the daemon ${how}${messages === '' ? '' : `: ${messages}`}`);
  }
}

/** Nothing else of this process' environment: XENSTORED_PATH, TZ or LD_PRELOAD would change what the daemon does. */
function environment(options: DaemonProcessOptions): NodeJS.ProcessEnv {
  const libraries = process.env['LD_LIBRARY_PATH'];
  return {
    PATH: process.env['PATH'],
    LC_ALL: 'C',
    TZ: 'UTC',
    ...(libraries === undefined ? {} : { LD_LIBRARY_PATH: libraries }),
    ...options.command.environment,
    LD_PRELOAD: options.library,
    XEN_PRELOAD_DIRECTORY: options.directory,
    XEN_PRELOAD_EVENTS_FD: String(EVENTS_FD),
    XEN_PRELOAD_PARENT: String(process.pid),
  };
}
