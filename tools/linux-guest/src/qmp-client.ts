import type { Duplex } from 'node:stream';
import { LinuxGuestError } from './error.ts';
import { within } from './within.ts';

const TIMEOUT_MS = 20_000;
/** Events that are kept for those who ask later, the last ones. */
const EVENT_COUNT_MAX = 256;

export interface QmpEvent {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

interface QmpMessage {
  readonly QMP?: unknown;
  readonly id?: number;
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
  readonly event?: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

interface EventWaiter {
  readonly isWanted: (event: QmpEvent) => boolean;
  readonly outcome: PromiseWithResolvers<QmpEvent>;
}

/** QEMU's own control channel (QEMU: docs/interop/qmp-spec.txt): one JSON object a line. */
export class QmpClient {
  readonly #stream: Duplex;
  readonly #pending = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #waiters = new Set<EventWaiter>();
  readonly #events: QmpEvent[] = [];
  #failure: LinuxGuestError | undefined;
  #nextId = 1;
  #partialLine = '';

  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.setEncoding('utf8').on('data', (text: string) => this.#receive(text));
    stream.on('error', () => undefined); // the end of the process says more
    void this.execute('qmp_capabilities').catch(() => undefined); // later commands say what is wrong
  }

  /** All events so far, the last 256. */
  get events(): readonly QmpEvent[] {
    return [...this.#events];
  }

  /** What QEMU returns. Rejects with LinuxGuestError `qmp` when it refuses, `timeout`, or `exited`. */
  execute(command: string, parameters: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const id = this.#nextId++;
    const answer = Promise.withResolvers<unknown>();
    this.#pending.set(id, answer);
    this.#stream.write(`${JSON.stringify({ execute: command, arguments: parameters, id })}\n`);
    return within(answer.promise, TIMEOUT_MS, () => {
      this.#pending.delete(id);
      return new LinuxGuestError('timeout', `QEMU does not answer ${command}`);
    }).catch((error: unknown) => {
      throw error instanceof LinuxGuestError && error.code === 'qmp'
        ? new LinuxGuestError('qmp', `${command}: ${error.message}`)
        : error;
    });
  }

  /** The next event that is wanted, from now on. Rejects with LinuxGuestError `timeout` or `exited`. */
  nextEvent(isWanted: (event: QmpEvent) => boolean, timeoutMs: number = TIMEOUT_MS): Promise<QmpEvent> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const waiter: EventWaiter = { isWanted, outcome: Promise.withResolvers() };
    this.#waiters.add(waiter);
    return within(waiter.outcome.promise, timeoutMs, () => {
      this.#waiters.delete(waiter);
      return new LinuxGuestError('timeout', `QEMU did not report the event in ${timeoutMs} ms`);
    });
  }

  /** Ends all that waits for an answer or an event, and all that will, with this error. */
  fail(error: LinuxGuestError): void {
    this.#failure ??= error;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
    for (const { outcome } of this.#waiters) outcome.reject(error);
    this.#waiters.clear();
  }

  #receive(text: string): void {
    const lines = (this.#partialLine + text).split('\n');
    this.#partialLine = lines.pop()!;
    for (const line of lines) {
      if (line.trim() !== '') this.#receiveMessage(JSON.parse(line) as QmpMessage);
    }
  }

  #receiveMessage(message: QmpMessage): void {
    if (message.event !== undefined) {
      this.#receiveEvent({
        event: message.event,
        ...(message.data === undefined ? {} : { data: message.data }),
      });
      return;
    }
    const answer = this.#pending.get(message.id ?? -1);
    if (answer === undefined) return; // the greeting
    this.#pending.delete(message.id!);
    if (message.error === undefined) answer.resolve(message.return);
    else answer.reject(new LinuxGuestError('qmp', message.error.desc));
  }

  #receiveEvent(event: QmpEvent): void {
    this.#events.push(event);
    if (this.#events.length > EVENT_COUNT_MAX) this.#events.shift();
    for (const waiter of this.#waiters) {
      if (!waiter.isWanted(event)) continue;
      this.#waiters.delete(waiter);
      waiter.outcome.resolve(event);
    }
  }
}
