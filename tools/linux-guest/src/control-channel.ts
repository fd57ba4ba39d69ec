import type { Duplex } from 'node:stream';
import { LinuxGuestError } from './error.ts';
import { within } from './within.ts';

/** Bytes of output that an answer carries; the guest counts the rest and drops it. */
export const OUTPUT_SIZE_MAX: number = 256 * 1024;
/** Bytes of a command: what fits in the guest's serial port while its shell is busy, with room to spare. */
export const COMMAND_SIZE_MAX: number = 16 * 1024;

const PREFIX = 'virtlab ';

export interface CommandResult {
  /** Of the shell that ran it: 0 is success, 128 and more is a signal. */
  readonly status: number;
  /** Standard output and standard error in the order in which they were written, as UTF-8. */
  readonly output: string;
  /** The same, as it was written. */
  readonly bytes: Uint8Array;
}

export interface GuestBoot {
  /** Another one at each start of the guest's kernel. */
  readonly bootId: string;
  readonly kernelRelease: string;
}

interface Answer {
  readonly id: number;
  readonly status: number;
  /** Of all that the command wrote. */
  readonly size: number;
  readonly body: string[];
}

/**
 * This end of the guest's second serial port (README.md, "Protocol"). Answers are matched by number, so commands run side
 * by side in the guest. Lines that are none of the protocol's are ignored: a kernel or firmware may speak first.
 */
export class ControlChannel {
  readonly #stream: Duplex;
  readonly #context: () => string;
  readonly #pending = new Map<number, PromiseWithResolvers<CommandResult>>();
  #boot: PromiseWithResolvers<GuestBoot> = newBoot();
  #isReady = false;
  #failure: LinuxGuestError | undefined;
  #nextId = 1;
  #partialLine = '';
  #answer: Answer | undefined;

  /** `context` is appended to messages: what else is known about the guest. */
  constructor(stream: Duplex, context: () => string) {
    this.#stream = stream;
    this.#context = context;
    stream.setEncoding('latin1').on('data', (text: string) => this.#receive(text));
    stream.on('error', () => undefined); // the end of the process says more
  }

  /** Resolves at the guest's first word, or at its first after `expectBoot`. */
  untilBoot(timeoutMs: number): Promise<GuestBoot> {
    return within(this.#boot.promise, timeoutMs, () => this.#error('timeout', `no start in ${timeoutMs} ms`));
  }

  /** What runs now will not be answered, and nothing can run until the guest has started again. */
  expectBoot(): void {
    this.#boot = newBoot();
    if (this.#failure !== undefined) this.#boot.reject(this.#failure);
    this.#restart();
  }

  /**
   * Runs a shell script in the guest. Rejects with LinuxGuestError `timeout`, `restarted`, `output`, `protocol`, or what
   * `fail` was called with. Throws RangeError where the script is too long.
   */
  run(script: string, timeoutMs: number): Promise<CommandResult> {
    const bytes = Buffer.from(script);
    if (bytes.length > COMMAND_SIZE_MAX) {
      throw new RangeError(`a command of ${bytes.length} bytes, the guest takes ${COMMAND_SIZE_MAX}`);
    }
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (!this.#isReady)
      return Promise.reject(this.#error('restarted', 'the guest is not ready for commands'));
    const id = this.#nextId++;
    const text = bytes.toString('base64');
    const result = Promise.withResolvers<CommandResult>();
    this.#pending.set(id, result);
    this.send(`run ${id} ${text.length} ${text}`);
    return within(result.promise, timeoutMs, () => {
      this.#pending.delete(id);
      this.send(`kill ${id}`);
      return this.#error('timeout', `not done in ${timeoutMs} ms: ${script}`);
    });
  }

  /** A line that is not answered. */
  send(line: string): void {
    if (this.#stream.writable) this.#stream.write(`${line}\n`);
  }

  /** Ends all that waits, and all that will, with this error. */
  fail(error: LinuxGuestError): void {
    this.#failure ??= error;
    this.#boot.reject(error);
    this.#isReady = false;
    for (const { reject } of this.#takePending()) reject(error);
  }

  #receive(text: string): void {
    const lines = (this.#partialLine + text).split('\n');
    this.#partialLine = lines.pop()!;
    for (const line of lines) this.#receiveLine(line);
  }

  #receiveLine(line: string): void {
    if (!line.startsWith(PREFIX)) {
      this.#answer?.body.push(line); // base64 has no blanks
      return;
    }
    const [word, first, second, third] = line.slice(PREFIX.length).split(' ');
    const id = Number(first);
    if (word === 'ready' && first !== undefined) {
      this.#start({ bootId: first, kernelRelease: second ?? '' });
    } else if (word === 'done') {
      this.#answer = { id, status: Number(second), size: Number(third), body: [] };
    } else if (word === 'end' && this.#answer?.id === id) {
      this.#complete(this.#answer);
      this.#answer = undefined;
    } else if (word === 'refused') {
      this.#take(id)?.reject(this.#error('protocol', 'a command arrived damaged in the guest'));
    }
  }

  #start(boot: GuestBoot): void {
    this.#restart();
    if (this.#failure !== undefined) return;
    this.#isReady = true;
    this.send(''); // ends what may be left of a line from before
    this.#boot.resolve(boot);
  }

  #restart(): void {
    this.#isReady = false;
    this.#answer = undefined;
    const error = this.#error('restarted', 'the guest started anew');
    for (const { reject } of this.#takePending()) reject(error);
  }

  #complete(answer: Answer): void {
    const result = this.#take(answer.id);
    if (result === undefined) return; // it ran into its time limit
    const bytes = new Uint8Array(Buffer.from(answer.body.join(''), 'base64'));
    if (bytes.length !== Math.min(answer.size, OUTPUT_SIZE_MAX)) {
      const problem = `an answer of ${bytes.length} bytes, announced were ${answer.size}`;
      result.reject(this.#error('protocol', problem));
    } else if (answer.size > OUTPUT_SIZE_MAX) {
      const problem = `the command wrote ${answer.size} bytes, at most ${OUTPUT_SIZE_MAX} are carried`;
      result.reject(this.#error('output', problem));
    } else {
      result.resolve({ status: answer.status, output: Buffer.from(bytes).toString('utf8'), bytes });
    }
  }

  #take(id: number): PromiseWithResolvers<CommandResult> | undefined {
    const result = this.#pending.get(id);
    this.#pending.delete(id);
    return result;
  }

  #takePending(): readonly PromiseWithResolvers<CommandResult>[] {
    const all = [...this.#pending.values()];
    this.#pending.clear();
    return all;
  }

  #error(code: 'timeout' | 'restarted' | 'output' | 'protocol', problem: string): LinuxGuestError {
    return new LinuxGuestError(code, `the guest: ${problem}${this.#context()}`);
  }
}

function newBoot(): PromiseWithResolvers<GuestBoot> {
  const boot = Promise.withResolvers<GuestBoot>();
  boot.promise.catch(() => undefined); // it may fail before anybody waits
  return boot;
}
