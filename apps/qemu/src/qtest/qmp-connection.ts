import { LineSocket } from './line-socket.ts';
import { QemuError } from './qemu-error.ts';

export interface QmpEvent {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

interface QmpMessage extends Partial<QmpEvent> {
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
}

/** QEMU's machine protocol, in the synchronous manner of `QtestConnection`: a JSON text a line. */
export class QmpConnection implements Disposable {
  readonly #socket: LineSocket;
  readonly #timeoutMs: number;
  readonly #onEvent: (event: QmpEvent) => void;
  #isReady = false;

  /** Owns `fd`, a non-blocking stream socket. Events come on the stack of `execute` and `poll`. */
  constructor(fd: number, timeoutMs: number, onEvent: (event: QmpEvent) => void) {
    this.#socket = new LineSocket(fd);
    this.#timeoutMs = timeoutMs;
    this.#onEvent = onEvent;
  }

  /** What the command returns. Throws `QemuError`: `EPROTO` with what QEMU says against it, `ENODEV`, `ETIMEDOUT`. */
  execute(command: string, args: Readonly<Record<string, unknown>> = {}): unknown {
    if (!this.#isReady) {
      this.#isReady = true;
      this.#receive();
      this.execute('qmp_capabilities');
    }
    if (!this.#socket.send(`${JSON.stringify({ execute: command, arguments: args })}\n`, this.#timeoutMs)) {
      throw new QemuError('ENODEV', `QEMU ended before ${command}`);
    }
    for (;;) {
      const message = this.#receive();
      if (message.error !== undefined) throw new QemuError('EPROTO', `${command}: ${message.error.desc}`);
      if ('return' in message) return message.return;
      this.#tell(message);
    }
  }

  /** Looks for events. */
  poll(): void {
    let line = this.#socket.tryReceive();
    for (; line !== undefined; line = this.#socket.tryReceive()) this.#tell(JSON.parse(line) as QmpMessage);
  }

  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }

  #receive(): QmpMessage {
    const line = this.#socket.receive(this.#timeoutMs);
    if (line !== undefined) return JSON.parse(line) as QmpMessage;
    const { hasEnded } = this.#socket;
    throw new QemuError(hasEnded ? 'ENODEV' : 'ETIMEDOUT', hasEnded ? 'QEMU ended' : 'QMP does not answer');
  }

  #tell({ event, data }: QmpMessage): void {
    if (event !== undefined) this.#onEvent(data === undefined ? { event } : { event, data });
  }
}
