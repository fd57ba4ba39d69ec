import { XENBUS_KEY_BACKEND, XENBUS_KEY_ONLINE, XENBUS_KEY_STATE, XenbusState } from '@virtlab/abi/xenbus';
import { type DriverLink, TransportError } from '@virtlab/virtio';
import { followNode, isLost, isMissing, parseState } from '@virtlab/xenbus';
import type { Xenstore } from '@virtlab/xenstore';
import { type ConnectVirtioXenbusOptions, TIMEOUT_MS_DEFAULT, attempt } from './connect.ts';
import { Lifeline, sleep } from './lifeline.ts';

export interface ReconnectVirtioXenbusOptions extends ConnectVirtioXenbusOptions {
  /** How long the device may take to come back; `ETIMEDOUT` then. Default: as long as it likes. */
  readonly waitMs?: number;
  /** Ends the wait; rejects with its reason. */
  readonly signal?: AbortSignal;
}

/** Between two attempts at a device that goes away in the middle of each. */
const PAUSE_MIN_MS = 1;
const PAUSE_MAX_MS = 256;

/**
 * Waits until the device of `path` is there, whoever serves it by then (the backend that was, one that took its place, or one
 * in another domain for which the toolstack made both directories anew), and connects. For a driver whose device
 * went away, after it let go of the old link, and for one that starts before its device is plugged.
 *
 * Rejects as `connectVirtioXenbus`, but not with `ENODEV` for a device that is not there yet: only when the store is lost
 * it is not waited for any more (`EIO`).
 */
export async function reconnectVirtioXenbus(options: ReconnectVirtioXenbusOptions): Promise<DriverLink> {
  const { aio, waitMs = Infinity, timeoutMs = TIMEOUT_MS_DEFAULT, signal } = options;
  signal?.throwIfAborted();
  const patience = new Lifeline(aio, Infinity);
  const giveUp = (message: string): void => patience.cut(new TransportError('ETIMEDOUT', message));
  using timer = aio.createTimer(() => giveUp(`The device did not come back within ${waitMs} ms`));
  if (waitMs !== Infinity) timer.arm(waitMs);
  const abort = (): void => giveUp('The wait was ended');
  signal?.addEventListener('abort', abort, { once: true });
  try {
    return await persevere(options, timeoutMs, patience);
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}

async function persevere(
  options: ReconnectVirtioXenbusOptions,
  timeoutMs: number,
  patience: Lifeline,
): Promise<DriverLink> {
  const { store, path, aio } = options;
  for (let pauseMs = PAUSE_MIN_MS; ; pauseMs = Math.min(PAUSE_MAX_MS, pauseMs * 2)) {
    await untilServed(store, path, patience);
    try {
      return await attempt(options, timeoutMs, patience);
    } catch (error) {
      if (patience.end !== undefined) throw patience.end;
      if (!(error instanceof TransportError) || error.code !== 'ENODEV') throw error;
    }
    await patience.run('Waiting for the device', () => sleep(aio, pauseMs));
  }
}

/** Resolves when the directory names a backend that has a state and is not being removed. */
async function untilServed(store: Xenstore, path: string, patience: Lifeline): Promise<void> {
  await using watch = new ServedWatch(store, path);
  await patience.run('Waiting for the device', () => watch.run());
}

/** Follows the backend that the frontend's directory names, which may become another one meanwhile. */
class ServedWatch implements AsyncDisposable {
  readonly #store: Xenstore;
  readonly #path: string;
  readonly #served = Promise.withResolvers<void>();
  /** Watches that were registered, or are being. */
  readonly #followers: Promise<AsyncDisposable>[] = [];
  readonly #seen = new Set<string>();

  constructor(store: Xenstore, path: string) {
    this.#store = store;
    this.#path = path;
  }

  async run(): Promise<void> {
    void this.#store.closed.then(() => {
      this.#served.reject(new TransportError('EIO', 'The connection to xenstore is lost'));
    });
    this.#follow(`${this.#path}/${XENBUS_KEY_BACKEND}`, (backend) => this.#followBackend(backend));
    await this.#served.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const followers = await Promise.allSettled(this.#followers);
    for (const each of followers) if (each.status === 'fulfilled') await each.value[Symbol.asyncDispose]();
  }

  #followBackend(backend: string): void {
    if (this.#seen.has(backend)) return;
    this.#seen.add(backend);
    this.#follow(`${backend}/${XENBUS_KEY_STATE}`, () => void this.#look(backend));
  }

  #follow(path: string, onText: (text: string) => void): void {
    const following = followNode(this.#store, path, (text) => {
      if (text !== undefined) onText(text);
    });
    following.catch((error: unknown) => this.#served.reject(error));
    this.#followers.push(following);
  }

  /** A device that is offline, and Closed, is on its way out. The backend may not be the one that is named by now. */
  async #look(backend: string): Promise<void> {
    const [named, state, online] = await Promise.all([
      this.#readIfThere(`${this.#path}/${XENBUS_KEY_BACKEND}`),
      this.#readIfThere(`${backend}/${XENBUS_KEY_STATE}`),
      this.#readIfThere(`${backend}/${XENBUS_KEY_ONLINE}`),
    ]);
    const isLeaving = online !== '1' && parseState(state ?? '') === XenbusState.Closed;
    if (named === backend && state !== undefined && !isLeaving) this.#served.resolve();
  }

  async #readIfThere(path: string): Promise<string | undefined> {
    try {
      return await this.#store.readText(path);
    } catch (error) {
      if (isMissing(error) || isLost(error)) return undefined;
      throw error;
    }
  }
}
