import type { AioContext } from '@virtlab/aio';
import { EventChannelError } from '@virtlab/event-channel';
import { TransportError } from '@virtlab/virtio';
import { XenbusError } from '@virtlab/xenbus';
import { XenstoreError } from '@virtlab/xenstore';

/** Handed to an operation, so that a long one can stop when nobody waits for it any more. */
export interface Turn {
  readonly isOver: boolean;
}

/** Bounds operations: by a deadline each, and all of them by the end of the device. */
export class Lifeline {
  readonly #aio: AioContext;
  readonly #timeoutMs: number;
  readonly #waiting = new Set<(reason: TransportError) => void>();
  #end: TransportError | undefined;

  /** `timeoutMs` may be Infinity. */
  constructor(aio: AioContext, timeoutMs: number) {
    this.#aio = aio;
    this.#timeoutMs = timeoutMs;
  }

  /** Why nothing can be asked of the device any more. */
  get end(): TransportError | undefined {
    return this.#end;
  }

  /** Rejects what waits with `reason`, and what comes with `later`. The first call counts. */
  cut(reason: TransportError, later: TransportError = reason): void {
    if (this.#end !== undefined) return;
    this.#end = later;
    for (const reject of this.#waiting) reject(reason);
    this.#waiting.clear();
  }

  /**
   * Runs `operation`. Rejects with `TransportError`: the reason of `cut`, `ETIMEDOUT` after the time of this lifeline, or what
   * the failure of a Xen operation means to a driver. What an operation does later is ignored.
   */
  async run<T>(what: string, operation: (turn: Turn) => Promise<T>): Promise<T> {
    if (this.#end !== undefined) throw this.#end;
    const interrupted = Promise.withResolvers<never>();
    using timer = this.#aio.createTimer(() => {
      interrupted.reject(
        new TransportError('ETIMEDOUT', `${what} did not finish within ${this.#timeoutMs} ms`),
      );
    });
    if (this.#timeoutMs !== Infinity) timer.arm(this.#timeoutMs);
    this.#waiting.add(interrupted.reject);
    const turn = { isOver: false };
    try {
      return await Promise.race([operation(turn), interrupted.promise]);
    } catch (error) {
      throw toTransportError(error);
    } finally {
      turn.isOver = true;
      this.#waiting.delete(interrupted.reject);
    }
  }
}

/** Resolves after `delayMs` of the context's clock. */
export async function sleep(aio: AioContext, delayMs: number): Promise<void> {
  const elapsed = Promise.withResolvers<void>();
  using timer = aio.createTimer(() => elapsed.resolve());
  timer.arm(delayMs);
  await elapsed.promise;
}

/** What the failure of a Xen operation means to a driver; anything else is passed on as it is. */
export function toTransportError(error: unknown): unknown {
  const code = transportCode(error);
  if (code === undefined || !(error instanceof Error)) return error;
  return new TransportError(code, error.message, { cause: error });
}

const XENBUS_CODES = { ENOENT: 'ENODEV', EINVAL: 'EPROTO', EAGAIN: 'EIO' } as const;

function transportCode(error: unknown): TransportError['code'] | undefined {
  if (error instanceof XenbusError) return XENBUS_CODES[error.code];
  if (error instanceof XenstoreError)
    return error.code === 'ENOENT' || error.code === 'EACCES' ? 'ENODEV' : 'EIO';
  return error instanceof EventChannelError ? 'EIO' : undefined;
}
