import { type ChildProcess, spawn } from 'node:child_process';
import type { Duplex } from 'node:stream';
import { QEMU, SETPRIV } from './availability.ts';
import { LinuxGuestError } from './error.ts';
import { programPath } from './image/host-programs.ts';
import { TextTail } from './text-tail.ts';

/** Sockets that QEMU inherits: no names, and they end with either process. */
export const CONSOLE_FD = 3;
export const CONTROL_FD = 4;
export const QMP_FD = 5;

/** Characters of its standard error and of the guest's console that are kept, the last ones. */
const TEXT_SIZE_MAX = 1 << 18;
const CONTEXT_LINES = 25;

/** A QEMU that is killed with the thread that started it (prctl(2), PR_SET_PDEATHSIG), and what it said. */
export class QemuProcess {
  readonly #child: ChildProcess;
  readonly #messages = new TextTail(TEXT_SIZE_MAX);
  readonly #console = new TextTail(TEXT_SIZE_MAX);
  /** Resolves with what there is to say about its end; its output has been read then. */
  readonly ended: Promise<LinuxGuestError>;
  readonly control: Duplex;
  readonly qmp: Duplex;
  #end: string | undefined;

  /** `onConsole` sees each new piece of what the guest's kernel says. */
  constructor(args: readonly string[], onConsole: (text: string) => void) {
    this.#child = spawn(programPath(SETPRIV) ?? SETPRIV, ['--pdeathsig', 'KILL', '--', QEMU, ...args], {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe', 'pipe'],
    });
    const stdio: readonly unknown[] = this.#child.stdio; // its type has five
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => this.#messages.append(text));
    const console = stdio[CONSOLE_FD] as Duplex;
    console.on('error', () => undefined).setEncoding('utf8');
    console.on('data', (text: string) => {
      this.#console.append(text);
      onConsole(text);
    });
    this.control = stdio[CONTROL_FD] as Duplex;
    this.qmp = stdio[QMP_FD] as Duplex;
    this.ended = this.#watchEnd();
  }

  /** 0 when it could not be started. */
  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** What the guest's kernel and init said on the first serial port, the last 256 Ki characters. */
  get console(): string {
    return this.#console.text;
  }

  /** What QEMU wrote to its standard error, the last 256 Ki characters. */
  get messages(): string {
    return this.#messages.text;
  }

  /** Whether it ended by itself without an error. */
  get endedWell(): boolean {
    return this.#end === 'status 0';
  }

  /** Lines for a message: what it and the guest said last. */
  context(): string {
    const said = this.#messages.lastLines('QEMU said', CONTEXT_LINES);
    return said + this.#console.lastLines("the guest's console", CONTEXT_LINES);
  }

  /** At once; a guest that shall keep its data is powered off. Resolves when the process is gone. */
  async kill(): Promise<void> {
    if (this.#end === undefined) this.#child.kill('SIGKILL');
    await this.ended;
  }

  #watchEnd(): Promise<LinuxGuestError> {
    return new Promise((resolve) => {
      const end = (how: string): void => {
        if (this.#end !== undefined) return;
        this.#end = how;
        resolve(new LinuxGuestError('exited', `QEMU ended (${how})${this.context()}`));
      };
      this.#child.once('error', (error) => {
        if (this.#child.pid === undefined) end(error.message);
      });
      this.#child.once('close', (status, signal) => end(signal ?? `status ${status}`));
    });
  }
}
