import {
  XS_DIRECTORY,
  XS_DIRECTORY_PART,
  XS_GET_PERMS,
  XS_MKDIR,
  XS_READ,
  XS_RM,
  XS_SET_PERMS,
  XS_WRITE,
} from '@virtlab/abi/xs-wire';
import { unlessAborted } from './abort.ts';
import { byteString, textOfByteString, utf8ByteString } from './byte-string.ts';
import { type ClientSession, argument } from './client-session.ts';
import type { XenstorePermission, XenstoreTransaction } from './contract.ts';
import { XenstoreError } from './errors.ts';
import { nulStrings } from './wire.ts';

const ACCESS_LETTERS: readonly XenstorePermission['access'][] = ['n', 'r', 'w', 'b'];

/** The node operations under one transaction id; id 0 means directly. */
export class ClientAccess implements XenstoreTransaction {
  readonly id: number;
  readonly #session: ClientSession;
  readonly #signal: AbortSignal | undefined;
  #isEnded = false;

  /** Once `signal` aborts, calls reject with its reason, also those that wait for their reply. */
  constructor(session: ClientSession, id: number, signal?: AbortSignal) {
    this.#session = session;
    this.#signal = signal;
    this.id = id;
  }

  /** From now on every call rejects: the id may soon mean another transaction. */
  end(): void {
    this.#isEnded = true;
  }

  read(path: string): Promise<Uint8Array> {
    return this.#request(XS_READ, path);
  }

  async readText(path: string): Promise<string> {
    return textOfByteString(byteString(await this.read(path)));
  }

  async write(path: string, value: string | Uint8Array): Promise<void> {
    await this.#request(
      XS_WRITE,
      path,
      typeof value === 'string' ? utf8ByteString(value) : byteString(value),
    );
  }

  async mkdir(path: string): Promise<void> {
    await this.#request(XS_MKDIR, path);
  }

  async rm(path: string): Promise<void> {
    await this.#request(XS_RM, path);
  }

  async directory(path: string): Promise<string[]> {
    try {
      return nulStrings(await this.#request(XS_DIRECTORY, path));
    } catch (error) {
      if (!(error instanceof XenstoreError) || error.code !== 'E2BIG') throw error;
      return this.#directoryInParts(path);
    }
  }

  async exists(path: string): Promise<boolean> {
    try {
      await this.read(path);
      return true;
    } catch (error) {
      if (error instanceof XenstoreError && (error.code === 'ENOENT' || error.code === 'EACCES'))
        return false;
      throw error;
    }
  }

  async getPermissions(path: string): Promise<XenstorePermission[]> {
    const entries = nulStrings(await this.#request(XS_GET_PERMS, path));
    return entries.map((entry) => {
      const access = ACCESS_LETTERS.find((letter) => letter === entry.charAt(0));
      const domid = Number(entry.slice(1)) >>> 0;
      if (access === undefined) throw new XenstoreError('EIO', 'GET_PERMS', path, `the daemon said ${entry}`);
      return { domid, access };
    });
  }

  async setPermissions(path: string, permissions: readonly XenstorePermission[]): Promise<void> {
    const entries = permissions.map(({ domid, access }) => argument(`${access}${domid}`));
    await this.#request(XS_SET_PERMS, path, entries.join(''));
  }

  /** The list in pieces, until one generation of the node gave all of them. */
  async #directoryInParts(path: string): Promise<string[]> {
    for (;;) {
      let generation: string | undefined;
      let names = '';
      for (;;) {
        const part = byteString(await this.#request(XS_DIRECTORY_PART, path, argument(String(names.length))));
        const end = part.indexOf('\0');
        const isSame = generation === undefined || part.slice(0, end) === generation;
        if (!isSame) break;
        generation = part.slice(0, end);
        const isLast = part.endsWith('\0\0');
        names += part.slice(end + 1, isLast ? -1 : undefined);
        if (isLast) return names === '' ? [] : names.slice(0, -1).split('\0');
      }
    }
  }

  async #request(type: number, path: string, rest: string = ''): Promise<Uint8Array> {
    if (this.#isEnded) throw new XenstoreError('EINVAL', 'TRANSACTION', path, 'the transaction has ended');
    this.#signal?.throwIfAborted();
    return unlessAborted(this.#session.request(type, this.id, argument(path) + rest, path), this.#signal);
  }
}
