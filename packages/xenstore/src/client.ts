import type { DomId, EvtchnPort } from '@virtlab/abi/brands';
import {
  XS_CONTROL,
  XS_FALSE,
  XS_GET_DOMAIN_PATH,
  XS_GET_FEATURE,
  XS_GET_QUOTA,
  XS_INTRODUCE,
  XS_IS_DOMAIN_INTRODUCED,
  XS_RELEASE,
  XS_RESET_WATCHES,
  XS_SET_FEATURE,
  XS_SET_QUOTA,
  XS_TRANSACTION_END,
  XS_TRANSACTION_START,
  XS_TRUE,
  XS_UNWATCH,
  XS_WATCH,
} from '@virtlab/abi/xs-wire';
import { pause, unlessAborted } from './abort.ts';
import { textOfByteString } from './byte-string.ts';
import { ClientAccess } from './client-access.ts';
import { ClientSession, argument } from './client-session.ts';
import { ClientWatch } from './client-watch.ts';
import type {
  ByteStream,
  Xenstore,
  XenstoreAccess,
  XenstoreCloseReason,
  XenstorePermission,
  XenstoreTransaction,
  XenstoreTransactionOptions,
  XenstoreWatch,
  XenstoreWatchEvent,
  XenstoreWatchOptions,
} from './contract.ts';
import { XenstoreError } from './errors.ts';
import { nulStrings } from './wire.ts';

export { XenstoreError, type XenstoreErrorCode } from './errors.ts';

/** Talks to any xenstored over any byte stream. See `Xenstore` for the guarantees. */
export class XenstoreClient implements Xenstore {
  readonly #session: ClientSession;
  readonly #direct: ClientAccess;
  readonly #watches = new Map<string, Set<ClientWatch>>();
  #tokenSequence = 0;

  /** The client owns the stream from here on. */
  constructor(stream: ByteStream) {
    this.#session = new ClientSession(stream, (path, token) => this.#dispatch(path, token));
    this.#direct = new ClientAccess(this.#session, 0);
    void this.#session.closed.then(() => this.#endWatches());
  }

  get closed(): Promise<XenstoreCloseReason | undefined> {
    return this.#session.closed;
  }

  read(path: string): Promise<Uint8Array> {
    return this.#direct.read(path);
  }

  readText(path: string): Promise<string> {
    return this.#direct.readText(path);
  }

  write(path: string, value: string | Uint8Array): Promise<void> {
    return this.#direct.write(path, value);
  }

  mkdir(path: string): Promise<void> {
    return this.#direct.mkdir(path);
  }

  rm(path: string): Promise<void> {
    return this.#direct.rm(path);
  }

  directory(path: string): Promise<string[]> {
    return this.#direct.directory(path);
  }

  exists(path: string): Promise<boolean> {
    return this.#direct.exists(path);
  }

  getPermissions(path: string): Promise<XenstorePermission[]> {
    return this.#direct.getPermissions(path);
  }

  setPermissions(path: string, permissions: readonly XenstorePermission[]): Promise<void> {
    return this.#direct.setPermissions(path, permissions);
  }

  async transaction<T>(
    body: (tx: XenstoreTransaction) => Promise<T>,
    options: XenstoreTransactionOptions = {},
  ): Promise<T> {
    const { backoffMs, retries = Number.POSITIVE_INFINITY, signal } = options;
    for (let attempt = 0; ; attempt++) {
      signal?.throwIfAborted();
      const tx = await this.#start(signal);
      const result = await this.#runBody(tx, body, signal);
      try {
        await unlessAborted(this.#end(tx, XS_TRUE), signal);
        return result;
      } catch (error) {
        const isConflict = error instanceof XenstoreError && error.code === 'EAGAIN';
        if (!isConflict || attempt >= retries) throw error;
      }
      if (backoffMs !== undefined) await pause(backoffMs(attempt + 1), signal);
    }
  }

  async watch(
    path: string,
    handler?: (event: XenstoreWatchEvent) => void,
    options: XenstoreWatchOptions = {},
  ): Promise<XenstoreWatch> {
    const { depth, queueCount, signal } = options;
    signal?.throwIfAborted();
    this.#tokenSequence += 1;
    const token = options.token ?? `watch-${this.#tokenSequence}`;
    const payload = argument(path) + argument(token) + (depth === undefined ? '' : argument(String(depth)));
    const watch = new ClientWatch(path, token, handler, (ended) => this.#unregister(ended), queueCount);
    const watches = this.#watches.get(token);
    if (watches === undefined) this.#watches.set(token, new Set([watch]));
    else watches.add(watch);
    try {
      await this.#session.request(XS_WATCH, 0, payload, path);
    } catch (error) {
      this.#drop(watch);
      throw error;
    }
    await this.#closeOnAbort(watch, signal);
    return watch;
  }

  /**
   * The same operations for a caller who may give up: once `signal` aborts, calls reject with its reason, also those
   * whose reply is not there. What the daemon was asked it may still do.
   */
  withSignal(signal: AbortSignal): XenstoreAccess {
    return new ClientAccess(this.#session, 0, signal);
  }

  async introduce(domid: DomId, gfn: number, port: EvtchnPort): Promise<void> {
    await this.#session.request(XS_INTRODUCE, 0, [domid, gfn, port].map((n) => argument(String(n))).join(''));
  }

  async release(domid: DomId): Promise<void> {
    await this.#session.request(XS_RELEASE, 0, argument(String(domid)));
  }

  async isDomainIntroduced(domid: DomId): Promise<boolean> {
    const reply = await this.#session.request(XS_IS_DOMAIN_INTRODUCED, 0, argument(String(domid)));
    return nulStrings(reply)[0] === XS_TRUE;
  }

  async getDomainPath(domid: DomId): Promise<string> {
    const [path] = nulStrings(await this.#session.request(XS_GET_DOMAIN_PATH, 0, argument(String(domid))));
    if (path === undefined)
      throw new XenstoreError('EIO', 'GET_DOMAIN_PATH', undefined, 'the daemon named no path');
    return path;
  }

  async resetWatches(): Promise<void> {
    await this.#session.request(XS_RESET_WATCHES, 0, '\0');
    this.#endWatches();
  }

  /** Feature bits of the daemon, or of a domain (privileged). ENOSYS from daemons of Xen 4.17. */
  async getFeatures(domid?: DomId): Promise<number> {
    const payload = domid === undefined ? '' : argument(String(domid));
    return this.#number('GET_FEATURE', await this.#session.request(XS_GET_FEATURE, 0, payload));
  }

  /** Privileged: what a domain that is not yet introduced will be offered. EBUSY later, EINVAL for unknown bits. */
  async setFeatures(domid: DomId, features: number): Promise<void> {
    const payload = argument(String(domid)) + argument(String(features));
    await this.#session.request(XS_SET_FEATURE, 0, payload);
  }

  /** Privileged: the names that `getQuota` knows. ENOSYS from daemons of Xen 4.17. */
  async quotaNames(): Promise<string[]> {
    const [names = ''] = nulStrings(await this.#session.request(XS_GET_QUOTA, 0, ''));
    return names.split(' ').filter((name) => name !== '');
  }

  /** Privileged: a quota of all domains, or of one; 0 when it is not limited. EINVAL for an unknown name. */
  async getQuota(name: string, domid?: DomId): Promise<number> {
    const whose = domid === undefined ? '' : argument(String(domid));
    return this.#number('GET_QUOTA', await this.#session.request(XS_GET_QUOTA, 0, whose + argument(name)));
  }

  /** Privileged: see `getQuota`. */
  async setQuota(name: string, value: number, domid?: DomId): Promise<void> {
    const whose = domid === undefined ? '' : argument(String(domid));
    await this.#session.request(XS_SET_QUOTA, 0, whose + argument(name) + argument(String(value)));
  }

  /** Privileged: an administrative command and its parameters (xenstore-control(8)); the answer without its NUL. */
  async control(command: string, ...parameters: readonly string[]): Promise<string> {
    return (await this.controlStrings(command, ...parameters))[0] ?? '';
  }

  /** As `control`, for commands that answer with several strings. */
  async controlStrings(command: string, ...parameters: readonly string[]): Promise<string[]> {
    const payload = [command, ...parameters].map(argument).join('');
    return nulStrings(await this.#session.request(XS_CONTROL, 0, payload));
  }

  close(): void {
    this.#session.close();
    this.#endWatches();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  #number(op: string, reply: Uint8Array): number {
    const [text = ''] = nulStrings(reply);
    if (/^\d+$/.test(text)) return Number(text);
    throw new XenstoreError('EIO', op, undefined, `the daemon said ${JSON.stringify(text)}`);
  }

  /** Lives as long as the watch; if it has aborted already, the watch is closed again and the reason thrown. */
  async #closeOnAbort(watch: ClientWatch, signal: AbortSignal | undefined): Promise<void> {
    if (signal === undefined) return;
    if (signal.aborted) {
      await watch.close();
      signal.throwIfAborted();
    }
    const onAbort = (): void => void watch.close().catch(() => undefined);
    signal.addEventListener('abort', onAbort, { once: true });
    watch.onEnd = () => signal.removeEventListener('abort', onAbort);
  }

  async #start(signal: AbortSignal | undefined): Promise<ClientAccess> {
    const [id] = nulStrings(await this.#session.request(XS_TRANSACTION_START, 0, '\0'));
    const number = Number(id);
    if (!Number.isInteger(number) || number <= 0 || number > 0xffff_ffff) {
      throw new XenstoreError(
        'EIO',
        'TRANSACTION_START',
        undefined,
        `the daemon named the transaction ${id}`,
      );
    }
    return new ClientAccess(this.#session, number, signal);
  }

  /** Runs the body; if it rejects, abandons the transaction and rejects the same way. */
  async #runBody<T>(
    tx: ClientAccess,
    body: (tx: XenstoreTransaction) => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    try {
      return await unlessAborted(body(tx), signal);
    } catch (error) {
      const abandoned = this.#end(tx, XS_FALSE).catch(() => undefined);
      if (signal?.aborted !== true) await abandoned; // who gives up does not wait for the daemon
      throw error;
    }
  }

  async #end(tx: ClientAccess, how: typeof XS_TRUE | typeof XS_FALSE): Promise<void> {
    tx.end();
    await this.#session.request(XS_TRANSACTION_END, tx.id, argument(how));
  }

  async #unregister(watch: ClientWatch): Promise<void> {
    this.#drop(watch);
    if (this.#session.isClosed) return;
    await this.#session.request(XS_UNWATCH, 0, argument(watch.path) + argument(watch.token), watch.path);
  }

  #drop(watch: ClientWatch): void {
    const watches = this.#watches.get(watch.token);
    watches?.delete(watch);
    if (watches?.size === 0) this.#watches.delete(watch.token);
  }

  #dispatch(pathBytes: string, tokenBytes: string): void {
    const token = textOfByteString(tokenBytes);
    const watches = this.#watches.get(token);
    if (watches === undefined) return;
    const path = textOfByteString(pathBytes);
    for (const watch of watches) {
      if (watches.size === 1 || watch.covers(path)) watch.deliver({ path, token });
    }
  }

  #endWatches(): void {
    for (const watches of this.#watches.values()) for (const watch of watches) watch.end();
    this.#watches.clear();
  }
}
