/** Where connections of the device-hosting role come from: a path, or a descriptor that somebody else opened. */
import { VHOST_USER_MAX_FDS } from '@virtlab/abi/vhost-user';
import { UnixStream, UnixStreamServer } from '@virtlab/linux';
import type { VhostUserBackendEnd } from './backend-options.ts';
import type { VhostUserBackend } from './serve.ts';

/** Connections that wait for their turn; further ones are closed, unless one of those has gone. */
const WAITING_COUNT_MAX = 8;
const STREAM_OPTIONS = { fdsMax: VHOST_USER_MAX_FDS } as const;

export interface ListenVhostUserOptions {
  /** Where to listen. A socket that a dead process left there is replaced; one that is in use is an error. */
  readonly path?: string;
  /** Or a listening socket, which this then owns. */
  readonly fd?: number;
  /** Permissions of the socket at `path`. Default 0o600. */
  readonly mode?: number;
  /** Connections served at once; the others wait. Each needs a device of its own. Default 1. */
  readonly connectionsMax?: number;
  /** Serves one connection: `serveVhostUser` with whatever options. Called when the one before has ended and its device is free. */
  serve(stream: UnixStream): VhostUserBackend;
  /** A connection ended, or `serve` threw, which then is the `error`; the next is served after this. */
  onEnd?(end: VhostUserBackendEnd): void;
}

export interface VhostUserListener extends AsyncDisposable {
  /** Connections that are served now. */
  readonly connections: readonly VhostUserBackend[];
  /** Stops listening, ends the connections, and resolves when all is given back. */
  close(): Promise<void>;
}

/**
 * Serves connections one after the other. Throws `LinuxError` `EADDRINUSE` where somebody listens already, and `TypeError`
 * without exactly one of `path` and `fd`.
 */
export function listenVhostUser(options: ListenVhostUserOptions): VhostUserListener {
  return new Listener(options);
}

/** The stream of a connected socket that somebody else opened (`--fd`), which it then owns. */
export function vhostUserStream(fd: number): UnixStream {
  return UnixStream.fromFd(fd, STREAM_OPTIONS);
}

class Listener implements VhostUserListener {
  readonly #options: ListenVhostUserOptions;
  readonly #server: UnixStreamServer;
  readonly #waiting: UnixStream[] = [];
  readonly #served = new Set<VhostUserBackend>();
  #isClosed = false;

  constructor(options: ListenVhostUserOptions) {
    const { path, fd, mode } = options;
    if ((path === undefined) === (fd === undefined))
      throw new TypeError('Give either a path or a descriptor');
    this.#options = options;
    const onConnection = (stream: UnixStream): void => this.#accept(stream);
    const modeOption = mode === undefined ? {} : { mode };
    this.#server =
      path === undefined
        ? UnixStreamServer.fromFd(fd!, onConnection, STREAM_OPTIONS)
        : UnixStreamServer.listen(path, onConnection, { ...STREAM_OPTIONS, ...modeOption });
  }

  get connections(): readonly VhostUserBackend[] {
    return [...this.#served];
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#server.close();
    for (const stream of this.#waiting.splice(0)) stream.close();
    await Promise.all([...this.#served].map(async (backend) => await backend.close()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #accept(stream: UnixStream): void {
    if (this.#waiting.length >= WAITING_COUNT_MAX) this.#dropGone();
    if (this.#isClosed || this.#waiting.length >= WAITING_COUNT_MAX) {
      stream.close();
      return;
    }
    this.#waiting.push(stream);
    this.#serveNext();
  }

  /** Of a stream that nobody reads yet the end is not told. */
  #dropGone(): void {
    for (const stream of this.#waiting.splice(0)) {
      if (stream.isPeerGone) stream.close();
      else this.#waiting.push(stream);
    }
  }

  #serveNext(): void {
    while (!this.#isClosed && this.#served.size < (this.#options.connectionsMax ?? 1)) {
      const stream = this.#waiting.shift();
      if (stream === undefined) return;
      void this.#serve(stream);
    }
  }

  async #serve(stream: UnixStream): Promise<void> {
    const end = await this.#endOf(stream);
    this.#options.onEnd?.(end);
    this.#serveNext();
  }

  async #endOf(stream: UnixStream): Promise<VhostUserBackendEnd> {
    let backend: VhostUserBackend | undefined;
    try {
      backend = this.#options.serve(stream);
      this.#served.add(backend);
      return await backend.ended;
    } catch (error) {
      stream.close();
      return { fault: undefined, error };
    } finally {
      if (backend !== undefined) this.#served.delete(backend);
    }
  }
}
