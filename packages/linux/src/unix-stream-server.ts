import { chmodSync, fchmodSync, linkSync, lstatSync, renameSync, rmSync } from 'node:fs';
import { closeFd, setNonblocking } from './fd.ts';
import { ffi, lastErrno, lastError } from './ffi.ts';
import { ECONNREFUSED, EINTR, EMFILE, ENFILE, ENOENT, SOCK_CLOEXEC, SOCK_NONBLOCK } from './kernel-abi.ts';
import { LinuxError } from './linux-error.ts';
import { connectUnix, unixAddress, unixSocket } from './socket-calls.ts';
import { UnixStream, type UnixStreamOptions } from './unix-stream.ts';
import { FdWatch } from './watch.ts';

const BACKLOG = 128;
const ACCEPTS_PER_TURN = 16;
/** A full descriptor table leaves the socket readable: look again later instead of spinning. */
const ACCEPT_RETRY_MS = 100;

export interface ListenOptions extends UnixStreamOptions {
  /** Connections that may wait to be accepted. Default 128. */
  readonly backlog?: number;
  /** Permissions of the socket, as of a file: who may connect. Default 0o600. */
  readonly mode?: number;
}

const MODE_BOUND = 0o600;

/** A listening Unix stream socket. Owns its descriptor, and the path if it made it, until closed. */
export class UnixStreamServer implements Disposable {
  /** Undefined for a socket that somebody else bound. */
  readonly path: string | undefined;
  readonly #inode: number | undefined;
  readonly #watch: FdWatch;
  readonly #options: ListenOptions;
  readonly #onConnection: (stream: UnixStream) => void;
  #fd: number;
  #retry: NodeJS.Timeout | undefined;

  private constructor(
    fd: number,
    path: string | undefined,
    onConnection: (stream: UnixStream) => void,
    options: ListenOptions,
  ) {
    this.#fd = fd;
    this.path = path;
    this.#inode = path === undefined ? undefined : lstatSync(path).ino;
    this.#onConnection = onConnection;
    this.#options = options;
    this.#watch = new FdWatch(fd, () => this.#accept());
    this.#watch.set(true, false);
  }

  /**
   * Listens at `path`. Accepted streams belong to `onConnection`. A socket left behind by a dead
   * server is replaced; the socket never appears at `path` before it can be connected to. Throws `LinuxError`
   * `EADDRINUSE` when somebody listens there, or something that is no socket is there.
   */
  static listen(
    path: string,
    onConnection: (stream: UnixStream) => void,
    options: ListenOptions = {},
  ): UnixStreamServer {
    const temporary = `${path}.${process.pid}`;
    const address = unixAddress(temporary);
    const { libc } = ffi('listen');
    const fd = unixSocket();
    try {
      // The mode of an unbound socket becomes that of its path, so it is never open to others
      // (net/unix/af_unix.c).
      fchmodSync(fd, MODE_BOUND);
      rmSync(temporary, { force: true });
      if (libc.bind(fd, address, address.length) < 0) throw lastError('bind', temporary);
      // What bind made of it was cut by the umask of this process.
      if (options.mode !== undefined) chmodSync(temporary, options.mode);
      if (libc.listen(fd, options.backlog ?? BACKLOG) < 0) throw lastError('listen', path);
      publish(temporary, path);
      return new UnixStreamServer(fd, path, onConnection, options);
    } catch (error) {
      closeFd(fd);
      throw error;
    } finally {
      rmSync(temporary, { force: true });
    }
  }

  /** Takes ownership of a listening socket that somebody else bound; its path, if it has one, stays. */
  static fromFd(
    fd: number,
    onConnection: (stream: UnixStream) => void,
    options: UnixStreamOptions = {},
  ): UnixStreamServer {
    setNonblocking(fd);
    return new UnixStreamServer(fd, undefined, onConnection, options);
  }

  ref(): void {
    this.#watch.ref();
  }

  unref(): void {
    this.#watch.unref();
  }

  /**
   * Stops listening and removes the path if it is still this server's. Accepted streams live on. Idempotent.
   */
  close(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    clearTimeout(this.#retry);
    this.#watch.close();
    const { path } = this;
    if (path !== undefined && lstatSync(path, { throwIfNoEntry: false })?.ino === this.#inode)
      rmSync(path, { force: true });
    closeFd(fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #accept(): void {
    const { libc } = ffi('accept4');
    for (let turn = 0; turn < ACCEPTS_PER_TURN && this.#fd >= 0; turn++) {
      const fd = libc.accept4(this.#fd, null, null, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (fd >= 0) {
        this.#onConnection(UnixStream.fromFd(fd, this.#options));
        continue;
      }
      const errno = lastErrno();
      if (errno === EMFILE || errno === ENFILE) this.#pause();
      // Whatever else accept4 says is about the one connection that is gone, or that there is none.
      if (errno !== EINTR) return;
    }
  }

  #pause(): void {
    this.#watch.set(false, false);
    this.#retry = setTimeout(() => this.#watch.set(true, false), ACCEPT_RETRY_MS);
  }
}

/** Gives the listening socket at `temporary` its name, over a dead socket if one is there. */
function publish(temporary: string, path: string): void {
  try {
    linkSync(temporary, path);
    return;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found !== undefined && !found.isSocket())
    throw new LinuxError('EADDRINUSE', 'listen', `${path} is no socket`);
  const probe = unixSocket();
  try {
    const errno = connectUnix(probe, path);
    if (errno !== ECONNREFUSED && errno !== ENOENT)
      throw new LinuxError('EADDRINUSE', 'listen', `somebody listens at ${path}`);
  } finally {
    closeFd(probe);
  }
  renameSync(temporary, path);
}
