import { domId, type DomId } from '@virtlab/abi/brands';
import {
  XENBUS_DIR_ERROR,
  XENBUS_KEY_BACKEND,
  XENBUS_KEY_BACKEND_ID,
  XENBUS_KEY_ERROR,
  XENBUS_KEY_FRONTEND,
  XENBUS_KEY_FRONTEND_ID,
  XENBUS_KEY_STATE,
  XENSTORE_HOME_PREFIX,
  XenbusState,
} from '@virtlab/abi/xenbus';
import { DOMID_FIRST_RESERVED } from '@virtlab/abi/xen';
import type { Xenstore } from '@virtlab/xenstore';
import { XenbusError } from './errors.ts';
import { closeWatch, followNode } from './follow-node.ts';
import { domainPath } from './paths.ts';
import { type XenbusKeys, isMissing, parseState, stateName, writeKeys } from './state.ts';
import type { Pause } from './transact.ts';
import { parseHex64, parseNumber, quote } from './values.ts';

export interface XenbusDeviceOptions {
  readonly store: Xenstore;
  /** Own directory, below the home of the own domain. */
  readonly path: string;
  readonly role: 'frontend' | 'backend';
  /** How a transaction that met a conflict waits before it is made again. Default: by asking the store something. */
  readonly pause?: Pause;
}

/**
 * One end of a device: its own directory, and what it hears of the other end's. States reach their handlers in order,
 * each once in a row though a watch may fire more often; `Unknown` means that the directory is gone, no longer ours to
 * read, holds nonsense, or that the connection to the store is lost.
 *
 * The own state is the toolstack's to change too: it removes the directory, makes it anew (Initialising), or asks a
 * backend to close. An end whose directory was made anew writes nothing any more.
 */
export class XenbusDevice implements AsyncDisposable {
  readonly store: Xenstore;
  readonly path: string;
  readonly otherend: string;
  readonly otherendDomain: DomId;
  #state: XenbusState = XenbusState.Unknown;
  #otherendState: XenbusState = XenbusState.Unknown;
  #hasError = false;
  readonly #followers = new Set<AsyncDisposable>();
  readonly #pause: Pause | undefined;
  #isClosed = false;

  /** Use `openXenbusDevice`. */
  constructor(
    store: Xenstore,
    path: string,
    otherend: string,
    otherendDomain: DomId,
    pause: Pause | undefined,
  ) {
    this.#pause = pause;
    this.store = store;
    this.path = path;
    this.otherend = otherend;
    this.otherendDomain = otherendDomain;
  }

  /** The state this end wrote last; Unknown before the first. */
  get state(): XenbusState {
    return this.#state;
  }

  /** The other end's state as last seen. */
  get otherendState(): XenbusState {
    return this.#otherendState;
  }

  /** Reports the other end's state, the present one first. */
  async watchOtherend(onState: (state: XenbusState) => void): Promise<void> {
    await this.#follow(`${this.otherend}/${XENBUS_KEY_STATE}`, (text) => {
      const state = text === undefined ? XenbusState.Unknown : parseState(text);
      this.#otherendState = state;
      onState(state);
    });
  }

  /** Reports the own state as it stands in the store, whoever wrote it. */
  async watchOwnState(onState: (state: XenbusState) => void): Promise<void> {
    await this.#follow(`${this.path}/${XENBUS_KEY_STATE}`, (text) =>
      onState(text === undefined ? XenbusState.Unknown : parseState(text)),
    );
  }

  /** Reports the text of one of the own keys, which may be the toolstack's to write; as `watchOtherendKey`. */
  async watchOwnKey(key: string, onText: (text: string | undefined) => void): Promise<AsyncDisposable> {
    return await this.#follow(`${this.path}/${key}`, onText);
  }

  /**
   * Reports the text of one of the other end's keys, the present one first; undefined while it is missing. Ends with the
   * returned object, or with this device.
   */
  async watchOtherendKey(key: string, onText: (text: string | undefined) => void): Promise<AsyncDisposable> {
    return await this.#follow(`${this.otherend}/${key}`, onText);
  }

  /**
   * Reports that something changed at or below one of the other end's keys, by the path below it (empty for the key itself,
   * which is reported first). What changed is the caller's to read. Ends as `watchOtherendKey`.
   */
  async watchOtherendTree(key: string, onChange: (below: string) => void): Promise<AsyncDisposable> {
    const root = `${this.otherend}/${key}`;
    const watch = await this.store.watch(root, ({ path }) => {
      if (!this.#isClosed) onChange(path.slice(root.length + 1));
    });
    return await this.#keep({ [Symbol.asyncDispose]: () => closeWatch(watch) });
  }

  /** Writes own keys at once (undefined removes one), unless the directory is gone or was made anew: then false. */
  async write(keys: XenbusKeys): Promise<boolean> {
    return await writeKeys(this.store, this.path, keys, (found) => this.#isOwn(found), this.#pause);
  }

  /** Writes `keys` and the own state at once; the same state is not written twice. False as `write`. */
  async switchState(state: XenbusState, keys: XenbusKeys = {}): Promise<boolean> {
    if (this.#state === state && Object.keys(keys).length === 0) return true;
    const isWritten = await this.write({ ...keys, [XENBUS_KEY_STATE]: String(state) });
    if (isWritten) this.#state = state;
    return isWritten;
  }

  /** Text of one of the own keys; undefined when it is missing. */
  async readOwn(key: string): Promise<string | undefined> {
    try {
      return await this.store.readText(`${this.path}/${key}`);
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /** Text of one of the other end's keys. `XenbusError` ENOENT when it is missing. */
  async readOtherend(key: string): Promise<string> {
    return await readRequired(this.store, `${this.otherend}/${key}`, 'The other end did not write it');
  }

  /** An unsigned decimal number of the other end, at most `max`. `XenbusError` ENOENT, or EINVAL for anything else. */
  async readOtherendNumber(key: string, max: number): Promise<number> {
    return parseNumber(`${this.otherend}/${key}`, await this.readOtherend(key), max);
  }

  /** A 64-bit number of the other end, `0x` and hex digits. `XenbusError` ENOENT, or EINVAL for anything else. */
  async readOtherendHex64(key: string): Promise<bigint> {
    return parseHex64(`${this.otherend}/${key}`, await this.readOtherend(key));
  }

  /** Reports that this end cannot go on, where an operator looks, and starts closing (Linux' xenbus_dev_fatal). */
  async fatal(errno: number, message: string): Promise<void> {
    try {
      await this.store.write(this.#errorPath(), `${errno} ${message}`);
      this.#hasError = true;
    } catch (error) {
      if (!isMissing(error)) throw error; // the toolstack gave the domain no place for it: the state still says it
    }
    await this.switchState(XenbusState.Closing);
  }

  /** Takes back what `fatal` reported, when a new attempt succeeded. */
  async clearError(): Promise<void> {
    if (!this.#hasError) return;
    this.#hasError = false;
    const path = this.#errorPath();
    await this.store.rm(path.slice(0, path.lastIndexOf('/')));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    const followers = [...this.#followers];
    this.#followers.clear();
    await Promise.all(followers.map((each) => each[Symbol.asyncDispose]()));
  }

  toString(): string {
    return `${this.path} (${stateName(this.#state)}, other end ${stateName(this.#otherendState)})`;
  }

  async #follow(path: string, onText: (text: string | undefined) => void): Promise<AsyncDisposable> {
    const follower = await followNode(this.store, path, (text) => {
      if (!this.#isClosed) onText(text);
    });
    return await this.#keep(follower);
  }

  /** Ends with this device, or before. */
  async #keep(follower: AsyncDisposable): Promise<AsyncDisposable> {
    if (this.#isClosed) await follower[Symbol.asyncDispose]();
    else this.#followers.add(follower);
    return {
      [Symbol.asyncDispose]: async () => {
        this.#followers.delete(follower);
        await follower[Symbol.asyncDispose]();
      },
    };
  }

  /** Initialising is what the toolstack writes into a new directory: not ours if we were further. */
  #isOwn(found: XenbusState): boolean {
    const isNew = this.#state === XenbusState.Unknown || this.#state === XenbusState.Initialising;
    return found !== XenbusState.Initialising || isNew;
  }

  #errorPath(): string {
    const [domain, ...device] = this.path.slice(XENSTORE_HOME_PREFIX.length).split('/');
    return `${XENSTORE_HOME_PREFIX}${domain}/${XENBUS_DIR_ERROR}/${device.join('/')}/${XENBUS_KEY_ERROR}`;
  }
}

/**
 * Reads who the other end is. `XenbusError`: ENOENT without a directory, EINVAL when it names nobody, or a place that
 * is not in the home of the domain it names.
 */
export async function openXenbusDevice(options: XenbusDeviceOptions): Promise<XenbusDevice> {
  const { store, path, role, pause } = options;
  if (!path.startsWith(XENSTORE_HOME_PREFIX))
    throw new RangeError(`${path} is not below the home of a domain`);
  const keys =
    role === 'frontend'
      ? { other: XENBUS_KEY_BACKEND, domain: XENBUS_KEY_BACKEND_ID }
      : { other: XENBUS_KEY_FRONTEND, domain: XENBUS_KEY_FRONTEND_ID };
  const complaint = 'The toolstack did not write it';
  const [otherend, domainText] = await Promise.all([
    readRequired(store, `${path}/${keys.other}`, complaint),
    readRequired(store, `${path}/${keys.domain}`, complaint),
  ]);
  const domain = domId(parseNumber(`${path}/${keys.domain}`, domainText, DOMID_FIRST_RESERVED - 1));
  if (!otherend.startsWith(`${domainPath(domain)}/`)) {
    throw new XenbusError(
      'EINVAL',
      `${path}/${keys.other}`,
      `${quote(otherend)} is not in the home of domain ${domain}`,
    );
  }
  return new XenbusDevice(store, path, otherend, domain, pause);
}

async function readRequired(store: Xenstore, path: string, complaint: string): Promise<string> {
  try {
    return await store.readText(path);
  } catch (error) {
    if (!isMissing(error)) throw error;
    throw new XenbusError('ENOENT', path, complaint, { cause: error });
  }
}
