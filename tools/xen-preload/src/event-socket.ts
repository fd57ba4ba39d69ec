import type { Duplex } from 'node:stream';
import { CHANNEL_LIMIT, MESSAGE_BOUND, MESSAGE_READY, type MachineFile, VIRQ_CHANNEL } from './machine.ts';

/**
 * This process's end of all event channels of one daemon: a socket on which a message is the number of a channel. Messages
 * are as many as pending bits became set, so a channel has at most one on its way in each direction.
 */
export class EventSocket {
  readonly #socket: Duplex;
  readonly #machine: MachineFile;
  readonly #onReady: () => void;
  readonly #listeners = new Map<number, () => void>();
  /** Channels whose event came while nobody listened. */
  readonly #pending = new Set<number>();
  readonly #partial = Buffer.alloc(4);
  #partialSize = 0;

  constructor(socket: Duplex, machine: MachineFile, onReady: () => void) {
    this.#socket = socket;
    this.#machine = machine;
    this.#onReady = onReady;
    // The daemon's death closes the socket, at worst in the middle of a message to it: `exit` of the process tells.
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
  }

  /** Sends an event to the daemon, unless one is pending or the daemon has not bound the channel. */
  send(channel: number): void {
    if (!this.#socket.writable || !this.#machine.setPendingAtDaemon(channel)) return;
    const message = Buffer.allocUnsafe(4);
    message.writeUInt32LE(channel);
    this.#socket.write(message);
  }

  raiseDomainException(): void {
    this.send(VIRQ_CHANNEL);
  }

  /** An event that came earlier is delivered soon after. Replaces the previous listener. */
  listen(channel: number, onEvent: () => void): void {
    this.#listeners.set(channel, onEvent);
    if (this.#pending.delete(channel)) queueMicrotask(() => this.#listeners.get(channel)?.());
  }

  forget(channel: number): void {
    this.#listeners.delete(channel);
    this.#pending.delete(channel);
  }

  /** Nobody hears of events from now on. */
  forgetAll(): void {
    this.#listeners.clear();
    this.#pending.clear();
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive(chunk: Buffer): void {
    for (const byte of chunk) {
      this.#partial[this.#partialSize++] = byte;
      if (this.#partialSize < 4) continue;
      this.#partialSize = 0;
      this.#handle(this.#partial.readUInt32LE());
    }
  }

  #handle(message: number): void {
    if (message === MESSAGE_READY) {
      this.#onReady();
    } else if (message >= MESSAGE_BOUND) {
      this.send(message - MESSAGE_BOUND);
    } else if (message < CHANNEL_LIMIT) {
      this.#machine.clearPendingAtDomain(message);
      const onEvent = this.#listeners.get(message);
      if (onEvent === undefined) this.#pending.add(message);
      else onEvent();
    }
  }
}
