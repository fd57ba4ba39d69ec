import { type ReadableWatch, watchReadable } from '@virtlab/linux';
import { LineSocket } from './line-socket.ts';
import { QemuError } from './qemu-error.ts';

export interface QtestConnectionOptions {
  /** A non-blocking stream socket; the connection's from now on. */
  readonly fd: number;
  /** For each answer. Default 10,000. */
  readonly timeoutMs?: number;
  /** An intercepted line went up or down; perhaps on the stack of whoever asks. */
  readonly onIrq?: (line: number, level: boolean) => void;
  /** Why the other side ended or does not answer, for messages. */
  readonly explain?: () => string;
}

/** Answers that may be outstanding before some are waited for: QEMU's output must fit the socket. */
const OWED_COUNT_MAX = 512;

export interface QtestStatistics {
  /** Commands sent; writes to the socket that they took; answers that were waited for. */
  readonly commands: number;
  readonly sends: number;
  readonly waits: number;
}

/**
 * QEMU's qtest protocol (its docs/devel/testing/qtest): a line a command, a line an answer, in order; `IRQ` lines come in
 * between. Synchronous, as an access of a processor is. Writes are posted: sent at once, their answers taken with the next
 * one that is waited for; `batch` sends several commands with one system call.
 */
export class QtestConnection implements Disposable {
  readonly statistics: QtestStatistics;
  readonly #counters = { commands: 0, sends: 0, waits: 0 };
  readonly #socket: LineSocket;
  readonly #timeoutMs: number;
  readonly #onIrq: ((line: number, level: boolean) => void) | undefined;
  readonly #explain: () => string;
  #watch: ReadableWatch | undefined;
  #held = '';
  #holdDepth = 0;
  #owedCount = 0;
  #answer: string | undefined;
  #failure: QemuError | undefined;

  constructor({ fd, timeoutMs = 10_000, onIrq, explain = () => '' }: QtestConnectionOptions) {
    this.statistics = this.#counters;
    this.#socket = new LineSocket(fd);
    this.#timeoutMs = timeoutMs;
    this.#onIrq = onIrq;
    this.#explain = explain;
  }

  /** Why nothing is answered any more. */
  get failure(): QemuError | undefined {
    return this.#failure;
  }

  /** Takes interrupts from the event loop too, from now on, which keeps the process alive until this is disposed. */
  listen(): void {
    this.#watch ??= watchReadable(this.#socket.fd, () => this.#drain());
  }

  /** Sends a command whose answer nobody needs. What QEMU says against it is thrown by the next `ask`. */
  post(command: string): void {
    this.#held += `${command}\n`;
    this.#owedCount += 1;
    this.#counters.commands += 1;
    if (this.#holdDepth === 0) this.#flush();
    if (this.#owedCount > OWED_COUNT_MAX) this.#settle();
  }

  /**
   * What follows `OK` in the answer. Throws `QemuError`: `EPROTO` when QEMU does not know the command, or one posted
   * before it; `ENODEV`, `ETIMEDOUT`.
   */
  ask(command: string): string {
    this.#holdDepth += 1;
    this.post(command);
    this.#holdDepth -= 1;
    this.#flush();
    this.#settle();
    if (this.#failure !== undefined) throw this.#failure;
    const answer = this.#answer ?? '';
    if (/^OK\b/.test(answer)) return answer.slice(3);
    throw new QemuError('EPROTO', `qtest ${JSON.stringify(command)} is answered ${JSON.stringify(answer)}`);
  }

  /** Waits until QEMU has done all that was posted. */
  settle(): void {
    this.#flush();
    this.#settle();
  }

  /** Commands that `run` posts are sent together, at its end or before an answer is waited for. */
  batch(run: () => void): void {
    this.#holdDepth += 1;
    try {
      run();
    } finally {
      this.#holdDepth -= 1;
      if (this.#holdDepth === 0) this.#flush();
    }
  }

  [Symbol.dispose](): void {
    this.#watch?.close();
    this.#watch = undefined;
    this.#failure ??= new QemuError('ENODEV', 'The connection is closed');
    this.#socket[Symbol.dispose]();
  }

  #flush(): void {
    if (this.#held === '') return;
    const text = this.#held;
    this.#held = '';
    if (this.#failure !== undefined) return;
    this.#counters.sends += 1;
    if (!this.#socket.send(text, this.#timeoutMs)) this.#fail();
  }

  #settle(): void {
    while (this.#owedCount > 0 && this.#failure === undefined) {
      const line = this.#socket.receive(this.#timeoutMs);
      this.#counters.waits += 1;
      if (line === undefined) this.#fail();
      else this.#take(line);
    }
  }

  #drain(): void {
    let line = this.#socket.tryReceive();
    for (; line !== undefined; line = this.#socket.tryReceive()) this.#take(line);
    if (!this.#socket.hasEnded) return;
    this.#watch?.close();
    this.#watch = undefined;
    this.#fail();
  }

  #take(line: string): void {
    const [, direction, number] = /^IRQ (raise|lower) (\d+)/.exec(line) ?? [];
    if (direction !== undefined) {
      this.#onIrq?.(Number(number), direction === 'raise');
      return;
    }
    if (this.#owedCount === 0) return;
    this.#owedCount -= 1;
    this.#answer = line;
    if (this.#owedCount > 0 && !/^OK\b/.test(line)) {
      this.#failure ??= new QemuError('EPROTO', `A posted qtest command is answered ${JSON.stringify(line)}`);
    }
  }

  #fail(): void {
    const hasEnded = this.#socket.hasEnded;
    const what = hasEnded ? 'QEMU ended' : `QEMU did not answer in ${this.#timeoutMs} ms`;
    this.#failure ??= new QemuError(hasEnded ? 'ENODEV' : 'ETIMEDOUT', `${what}${this.#explain()}`);
    this.#owedCount = 0;
  }
}
