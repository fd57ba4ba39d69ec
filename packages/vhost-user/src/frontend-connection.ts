/** The connection of a link as it comes and goes: operations wait for it, and it is made again where that was asked for. */
import { LinuxError, UnixStream } from '@virtlab/linux';
import { TransportError } from '@virtlab/virtio';
import type { ProtocolFault } from './fault.ts';
import { FrontendChannel } from './frontend-channel.ts';
import { sleep } from './frontend-device.ts';
import { transportError } from './frontend-fault.ts';
import type { ResolvedFrontendOptions } from './frontend-options.ts';

export interface FrontendConnectionEvents {
  onConfigChange(): void;
  /** The connection is over: what was told to the device is forgotten. */
  onLost(): void;
  /** Another process is there, and is to be told everything. */
  restore(channel: FrontendChannel): Promise<void>;
  /** Nobody comes back any more. Told once. */
  onGone(reason: string): void;
}

export class FrontendConnection {
  readonly #options: ResolvedFrontendOptions;
  readonly #events: FrontendConnectionEvents;
  #channel: FrontendChannel | undefined;
  #returning: Promise<void> | undefined;
  /** Of the attempt under way. */
  #attempted: UnixStream | undefined;
  /** Resolves when nobody waits for the device any more. */
  readonly #patience = Promise.withResolvers<void>();
  /** Ends everything from then on. */
  #end: TransportError | undefined;
  #isLast = false;

  constructor(options: ResolvedFrontendOptions, events: FrontendConnectionEvents) {
    this.#options = options;
    this.#events = events;
  }

  /** Undefined while there is none. */
  get channel(): FrontendChannel | undefined {
    return this.#channel;
  }

  async open(stream: UnixStream): Promise<FrontendChannel> {
    this.#channel = await this.#openChannel(stream);
    return this.#channel;
  }

  /**
   * Runs an operation when there is a connection. One whose connection ends meanwhile runs once more on the next, so it must
   * bear that.
   */
  async run<T>(operation: (channel: FrontendChannel) => Promise<T>): Promise<T> {
    for (;;) {
      if (this.#end !== undefined) throw this.#end;
      if (this.#returning !== undefined) {
        await this.#returning;
        continue;
      }
      const channel = this.#channel!;
      try {
        return await operation(channel);
      } catch (error) {
        if (!channel.isEnded || this.#returning === undefined) throw error;
      }
    }
  }

  /** Drops the connection, if there is one, and goes on with whoever listens. Rejects when the device is gone by then. */
  async renew(withinMs: number): Promise<void> {
    if (this.#end !== undefined) throw this.#end;
    if (this.#returning === undefined) {
      const channel = this.#channel;
      this.#channel = undefined;
      channel?.close();
      this.#leave('the connection was to be renewed', withinMs);
    }
    await this.#returning;
    if (this.#end !== undefined) throw this.#end;
  }

  /** A connection that ends from now on is not made again. */
  keepLast(): void {
    this.#isLast = true;
  }

  /** Operations reject from now on. Resolves when nothing is under way any more. */
  async close(): Promise<void> {
    this.#gone('the link was disposed');
    this.#channel?.close();
    this.#channel = undefined;
    this.#attempted?.close();
    this.#patience.resolve();
    await this.#returning;
  }

  async #openChannel(stream: UnixStream): Promise<FrontendChannel> {
    const channel: FrontendChannel = await FrontendChannel.open(stream, this.#options, {
      onConfigChange: () => this.#events.onConfigChange(),
      onEnd: (fault) => {
        if (this.#channel === channel) this.#lost(fault);
      },
    });
    return channel;
  }

  #lost(fault: ProtocolFault | undefined): void {
    this.#channel = undefined;
    const reason = fault?.message ?? 'the device closed the connection';
    const { reconnect } = this.#options;
    // A device that is there and does not keep to the protocol, or hangs, is not one to go on with.
    if (reconnect !== undefined && !this.#isLast && (fault === undefined || fault.code === 'CLOSED')) {
      this.#leave(reason, reconnect.withinMs);
      return;
    }
    this.#events.onLost();
    this.#gone(reason, fault === undefined ? undefined : transportError(fault));
  }

  #leave(reason: string, withinMs: number): void {
    this.#events.onLost();
    this.#returning = this.#comeBack(reason, withinMs).finally(() => {
      this.#returning = undefined;
    });
  }

  async #comeBack(reason: string, withinMs: number): Promise<void> {
    const { aio, path, reconnect } = this.#options;
    const everyMs = reconnect?.everyMs ?? 1;
    const until = aio.now() + withinMs;
    while (this.#end === undefined) {
      try {
        await this.#attempt(path!);
        return;
      } catch (error) {
        const code = error instanceof TransportError || error instanceof LinuxError ? error.code : undefined;
        if (code === undefined) throw error;
        const isFinal = code === 'EPROTO' || code === 'ENOTSUP' || code === 'EIO';
        if (isFinal || aio.now() >= until) {
          this.#gone(`${reason}; ${(error as Error).message}`);
          return;
        }
      }
      await sleep(aio, everyMs, this.#patience.promise);
    }
  }

  async #attempt(path: string): Promise<void> {
    this.#attempted = UnixStream.connect(path);
    try {
      const channel = await this.#openChannel(this.#attempted);
      await this.#events.restore(channel);
      if (this.#end !== undefined) throw this.#end;
      if (channel.isEnded) throw new TransportError('ENODEV', 'the device closed the connection');
      this.#channel = channel;
    } catch (error) {
      this.#attempted.close();
      this.#events.onLost();
      throw error;
    } finally {
      this.#attempted = undefined;
    }
  }

  #gone(reason: string, error: TransportError = new TransportError('ENODEV', reason)): void {
    if (this.#end !== undefined) return;
    this.#end =
      error.code === 'ENODEV' ? error : new TransportError('ENODEV', `device gone: ${error.message}`);
    this.#events.onGone(reason);
  }
}
