import type { DomId, EvtchnPort } from '@virtlab/abi/brands';
import {
  XS_CONTROL,
  XS_FALSE,
  XS_GET_DOMAIN_PATH,
  XS_INTRODUCE,
  XS_IS_DOMAIN_INTRODUCED,
  XS_RELEASE,
  XS_RESET_WATCHES,
  XS_TRANSACTION_END,
  XS_TRANSACTION_START,
  XS_TRUE,
  XS_UNWATCH,
  XS_WATCH,
} from '@virtlab/abi/xs-wire';
import { textOfByteString } from './byte-string.ts';
import { ClientAccess } from './client-access.ts';
import { ClientSession, argument } from './client-session.ts';
import { ClientWatch } from './client-watch.ts';
import type {
  ByteStream,
  Xenstore,
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
    const retries = options.retries ?? Number.POSITIVE_INFINITY;
    for (let attempt = 0; ; attempt++) {
      options.signal?.throwIfAborted();
      const tx = await this.#start();
      const result = await this.#runBody(tx, body);
      try {
        await this.#end(tx, XS_TRUE);
        return result;
      } catch (error) {
        const isConflict = error instanceof XenstoreError && error.code === 'EAGAIN';
        if (!isConflict || attempt >= retries) throw error;
      }
    }
  }

  async watch(
    path: string,
    handler?: (event: XenstoreWatchEvent) => void,
    options: XenstoreWatchOptions = {},
  ): Promise<XenstoreWatch> {
    this.#tokenSequence += 1;
    const token = options.token ?? `watch-${this.#tokenSequence}`;
    const payload = argument(path) + argument(token);
    const watch = new ClientWatch(path, token, handler, (ended) => this.#unregister(ended));
    const watches = this.#watches.get(token);
    if (watches === undefined) this.#watches.set(token, new Set([watch]));
    else watches.add(watch);
    try {
      await this.#session.request(XS_WATCH, 0, payload, path);
    } catch (error) {
      this.#drop(watch);
      throw error;
    }
    return watch;
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

  /** Privileged: an administrative command and its parameters (xenstore-control(8)); the answer without its NUL. */
  async control(command: string, ...parameters: readonly string[]): Promise<string> {
    const payload = [command, ...parameters].map(argument).join('');
    return nulStrings(await this.#session.request(XS_CONTROL, 0, payload))[0] ?? '';
  }

  close(): void {
    this.#session.close();
    this.#endWatches();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  async #start(): Promise<ClientAccess> {
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
    return new ClientAccess(this.#session, number);
  }

  /** Runs the body; if it rejects, abandons the transaction and rejects the same way. */
  async #runBody<T>(tx: ClientAccess, body: (tx: XenstoreTransaction) => Promise<T>): Promise<T> {
    try {
      return await body(tx);
    } catch (error) {
      await this.#end(tx, XS_FALSE).catch(() => undefined);
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
