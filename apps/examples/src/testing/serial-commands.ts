/** Commands for a guest of `@virtlab/linux-guest` that was started by hand; see "Protocol" of its README. */
import { existsSync } from 'node:fs';
import { type Socket, connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** For the guest to start, and for a command: shorter than what a test has. */
const TIMEOUT_MS = 50_000;

export class SerialCommands implements Disposable {
  readonly #socket: Socket;
  readonly #ended: Promise<never>;
  #text = '';
  #lastId = 0;
  #changed = Promise.withResolvers<void>();

  private constructor(socket: Socket) {
    this.#socket = socket;
    const { promise, reject } = Promise.withResolvers<never>();
    promise.catch(() => undefined);
    this.#ended = promise;
    socket.setEncoding('latin1').on('data', (text) => {
      this.#text += String(text);
      this.#changed.resolve();
      this.#changed = Promise.withResolvers();
    });
    socket.once('error', reject).once('close', () => reject(new Error(`QEMU ended: ${this.#text}`)));
  }

  /** Resolves when the guest takes commands at the socket of its second serial port; `isAlive` says whether to go on waiting. */
  static async open(path: string, isAlive: () => boolean): Promise<SerialCommands> {
    while (!existsSync(path)) {
      if (!isAlive()) throw new Error('QEMU did not start');
      await delay(5);
    }
    const commands = new SerialCommands(connect(path));
    await commands.#until(/^virtlab ready /m);
    return commands;
  }

  /** What a script wrote. Rejects unless it succeeded. */
  async output(script: string): Promise<string> {
    const text = Buffer.from(script).toString('base64');
    const id = (this.#lastId += 1);
    this.#socket.write(`run ${id} ${text.length} ${text}\n`);
    const answer = new RegExp(`^virtlab done ${id} (\\d+) \\d+\\n([^]*?)virtlab end ${id}$`, 'm');
    const [, status, encoded] = await this.#until(answer);
    const output = Buffer.from(encoded!, 'base64').toString();
    if (status !== '0') throw new Error(`${script}: status ${status}: ${output}`);
    return output;
  }

  powerOff(): void {
    this.#socket.write('poweroff\n');
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  async #until(pattern: RegExp): Promise<RegExpExecArray> {
    const late = delay(TIMEOUT_MS, undefined, { ref: false }).then(() => {
      throw new Error(`The guest does not answer: ${this.#text}`);
    });
    late.catch(() => undefined);
    for (;;) {
      const found = pattern.exec(this.#text);
      if (found !== null) {
        this.#text = this.#text.slice(found.index + found[0].length);
        return found;
      }
      await Promise.race([this.#changed.promise, this.#ended, late]);
    }
  }
}
