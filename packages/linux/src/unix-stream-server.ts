import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  lstatSync,
  openSync,
  rmSync,
  unlinkSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { closeFd, setNonblocking } from './fd.ts';
import { ffi, lastErrno, lastError } from './ffi.ts';
import { EINTR, EMFILE, ENFILE, SOCK_CLOEXEC, SOCK_NONBLOCK, UNIX_PATH_MAX } from './kernel-abi.ts';
import { fromNodeError } from './linux-error.ts';
import { publishSocket } from './publish-socket.ts';
import { unixAddress, unixSocket } from './socket-calls.ts';
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
    { path, inode }: { readonly path?: string; readonly inode?: number },
    onConnection: (stream: UnixStream) => void,
    options: ListenOptions,
  ) {
    this.#fd = fd;
    this.path = path;
    this.#inode = inode;
    this.#onConnection = onConnection;
    this.#options = options;
    this.#watch = new FdWatch(fd, () => this.#accept());
    this.#watch.set(true, false);
  }

  /**
   * Listens at `path`. Accepted streams belong to `onConnection`. A socket left behind by a dead
   * server is replaced; the socket never appears at `path` before it can be connected to. Throws `LinuxError`
   * `EADDRINUSE` when somebody listens there, or something that is no socket is there, `ENAMETOOLONG` for more than 107 bytes,
   * `EAGAIN` when somebody else keeps the directory locked (flock(2)) in which a dead socket is to be replaced, and what
   * the file system says.
   */
  static listen(
    path: string,
    onConnection: (stream: UnixStream) => void,
    options: ListenOptions = {},
  ): UnixStreamServer {
    unixAddress(path); // throws for one that nobody could connect to
    const fd = unixSocket();
    try {
      const inode = listenAt(fd, path, options);
      return new UnixStreamServer(fd, { path, inode }, onConnection, options);
    } catch (error) {
      closeFd(fd);
      throw fromNodeError(error);
    }
  }

  /** Takes ownership of a listening socket that somebody else bound; its path, if it has one, stays. */
  static fromFd(
    fd: number,
    onConnection: (stream: UnixStream) => void,
    options: UnixStreamOptions = {},
  ): UnixStreamServer {
    setNonblocking(fd);
    return new UnixStreamServer(fd, {}, onConnection, options);
  }

  ref(): void {
    this.#watch.ref();
  }

  unref(): void {
    this.#watch.unref();
  }

  /**
   * Removes the path if it is still this server's, and then stops listening: as long as the path is there, `publish` finds that
   * somebody listens. Accepted streams live on. Idempotent.
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

/** The inode of the socket's path. */
function listenAt(fd: number, path: string, { mode, backlog = BACKLOG }: ListenOptions): number {
  const { libc } = ffi('listen');
  using temporary = new TemporaryName(path);
  const { address } = temporary;
  // The mode of an unbound socket becomes that of its path, so it is never open to others
  // (net/unix/af_unix.c).
  fchmodSync(fd, MODE_BOUND);
  if (libc.bind(fd, address, address.length) < 0) throw lastError('bind', path);
  // What bind made of it was cut by the umask of this process.
  if (mode !== undefined) chmodSync(temporary.path, mode);
  if (libc.listen(fd, backlog) < 0) throw lastError('listen', path);
  const inode = lstatSync(temporary.path).ino;
  publishSocket(temporary.path, path);
  return inode;
}

/**
 * Where a socket is bound until it listens: beside its path, on the same file system. The address is the path of that, which is what
 * ss(8) shows, if it is short enough.
 */
class TemporaryName implements Disposable {
  readonly path: string;
  readonly address: Uint8Array;
  readonly #folderFd: number | undefined;

  constructor(path: string) {
    const tag = randomBytes(4).toString('hex');
    const beside = `${path}.${tag}`;
    if (Buffer.byteLength(beside) < UNIX_PATH_MAX) {
      this.path = beside;
      this.address = unixAddress(beside);
      return;
    }
    const folder = dirname(path);
    this.#folderFd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
    this.path = join(folder, `.${tag}`);
    this.address = unixAddress(`/proc/self/fd/${this.#folderFd}/.${tag}`);
  }

  [Symbol.dispose](): void {
    if (this.#folderFd !== undefined) closeSync(this.#folderFd);
    try {
      unlinkSync(this.path);
    } catch {
      // It became the path, or never was: what there is to say, the call before has said.
    }
  }
}
