import { closeFd, dupFd, setNonblocking } from './fd.ts';
import { SCM_MAX_FD } from './kernel-abi.ts';
import { LinuxError, linuxError } from './linux-error.ts';
import {
  connectUnix,
  hasHungUp,
  peerCredentials,
  receiveChunk,
  sendChunk,
  unixSocket,
  type PeerCredentials,
} from './socket-calls.ts';
import { FdWatch } from './watch.ts';

export const UNIX_STREAM_HIGH_WATER: number = 1 << 20;

/** Receives in a row before the event loop gets its turn: one busy peer does not starve the others. */
const RECEIVES_PER_TURN = 16;

export interface UnixStreamOptions {
  /** Bytes that may wait for a slow peer; also the largest message. Default 1 MiB. */
  readonly highWater?: number;
  /** Descriptors accepted in one message, 0..253; a peer that sends more is cut off. Default 253. */
  readonly fdsMax?: number;
}

/** Why a stream ended. `error` is set for `by: 'error'`. */
export interface CloseReason {
  readonly by: 'peer' | 'local' | 'error';
  readonly error?: LinuxError;
}

interface Pending {
  readonly bytes: Uint8Array;
  from: number;
  fds: readonly number[];
}

/**
 * A connected Unix stream socket that carries bytes and descriptors (unix(7), SCM_RIGHTS). Control plane: it
 * copies and allocates. Owns its descriptor until closed. Throws nothing because of the peer: what it does
 * wrong ends the stream.
 */
export class UnixStream implements Disposable {
  readonly #watch: FdWatch;
  readonly #highWater: number;
  readonly #fdsMax: number;
  readonly #queue: Pending[] = [];
  #fd: number;
  #queuedSize = 0;
  #onData: ((bytes: Uint8Array, fds: number[]) => void) | undefined;
  #onClose: ((reason: CloseReason) => void) | undefined;
  #onDrain: (() => void) | undefined;
  #reason: CloseReason | undefined;

  private constructor(fd: number, options: UnixStreamOptions) {
    this.#fd = fd;
    this.#highWater = options.highWater ?? UNIX_STREAM_HIGH_WATER;
    this.#fdsMax = options.fdsMax ?? SCM_MAX_FD;
    if (!(this.#fdsMax >= 0 && this.#fdsMax <= SCM_MAX_FD)) {
      throw new RangeError(`fdsMax ${this.#fdsMax} is not in 0..${SCM_MAX_FD}`);
    }
    this.#watch = new FdWatch(fd, (readable, writable) => {
      if (writable) this.#flush();
      if (readable) this.#receive();
    });
  }

  /**
   * Connects at once. Throws `LinuxError` (`ENOENT`, `ECONNREFUSED`, `EAGAIN`: the server's backlog is full,
   * …).
   */
  static connect(path: string, options: UnixStreamOptions = {}): UnixStream {
    const fd = unixSocket();
    try {
      const errno = connectUnix(fd, path);
      if (errno !== 0) throw linuxError(errno, 'connect', path);
      return new UnixStream(fd, options);
    } catch (error) {
      closeFd(fd);
      throw error;
    }
  }

  /** Takes ownership of a connected stream socket, for example one inherited or made by `socketPair`. */
  static fromFd(fd: number, options: UnixStreamOptions = {}): UnixStream {
    setNonblocking(fd);
    return new UnixStream(fd, options);
  }

  /** Bytes accepted by `send` that the kernel has not taken yet. */
  get queuedSize(): number {
    return this.#queuedSize;
  }

  get closed(): boolean {
    return this.#fd < 0;
  }

  /** Whether the stream is over or the peer has closed its end, asked of the kernel: it is known also without `onData`. */
  get isPeerGone(): boolean {
    return this.#fd < 0 || hasHungUp(this.#fd);
  }

  /**
   * Sends bytes (at least one) and descriptors, which arrive no later than the first of these bytes and in
   * order. Bytes and descriptors stay the caller's and may be reused or closed on return. Never blocks: what
   * the kernel does not take is queued. Throws `LinuxError` `ENOBUFS` when more than `highWater` bytes would
   * wait (nothing of the message is sent), `EPIPE` after the stream ended; a peer that is gone is reported by
   * `onClose`.
   */
  send(bytes: Uint8Array, fds: readonly number[] = []): void {
    if (bytes.length === 0) throw new RangeError('A message needs at least one byte');
    if (fds.length > SCM_MAX_FD)
      throw new RangeError(`${fds.length} descriptors in a message, at most ${SCM_MAX_FD}`);
    if (this.#fd < 0) throw new LinuxError('EPIPE', 'sendmsg', 'the stream is closed');
    if (this.#queuedSize + bytes.length > this.#highWater) {
      const detail = `${bytes.length} bytes on top of ${this.#queuedSize} exceed the limit of ${this.#highWater}`;
      throw new LinuxError('ENOBUFS', 'sendmsg', detail);
    }
    const sent = this.#queue.length === 0 ? this.#sendNow(bytes, 0, fds) : 0;
    if (this.#fd < 0 || sent === bytes.length) return;
    // The caller may close its descriptors on return, so the queue holds duplicates.
    this.#queue.push({ bytes: bytes.slice(sent), from: 0, fds: sent > 0 ? [] : duplicates(fds) });
    this.#queuedSize += bytes.length - sent;
    this.#rearm();
  }

  /**
   * Starts receiving. `bytes` and `fds` are the handler's own; it must close the descriptors. Chunks do not
   * keep message borders, but one chunk carries the descriptors of one message at most, and that message's
   * first byte: queue descriptors and let messages take them in order.
   */
  onData(handler: (bytes: Uint8Array, fds: number[]) => void): void {
    this.#onData = handler;
    this.#rearm();
  }

  /**
   * Calls once when the stream has ended, whatever ended it; from a microtask, so never from within a call of
   * the owner. Without `onData` the end of the peer is not seen.
   */
  onClose(handler: (reason: CloseReason) => void): void {
    this.#onClose = handler;
    if (this.#reason !== undefined) this.#reportClose();
  }

  /** Calls whenever the queue of unsent bytes has become empty again. */
  onDrain(handler: () => void): void {
    this.#onDrain = handler;
  }

  /** pid, uid and gid of the process that connected or listened (SO_PEERCRED). */
  peerCredentials(): PeerCredentials {
    return peerCredentials(this.#fd);
  }

  /**
   * Ends the stream: bytes still queued here are dropped, those the kernel took are delivered. Idempotent.
   */
  close(): void {
    this.#end({ by: 'local' });
  }

  /** Whether waiting for this stream keeps the process alive (it does at first). */
  ref(): void {
    this.#watch.ref();
  }

  unref(): void {
    this.#watch.unref();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #rearm(): void {
    if (this.#fd >= 0) this.#watch.set(this.#onData !== undefined, this.#queue.length > 0);
  }

  /** The bytes that the kernel took. A broken connection ends the stream and counts as 0. */
  #sendNow(bytes: Uint8Array, from: number, fds: readonly number[]): number {
    let at = from;
    try {
      while (at < bytes.length) {
        const sent = sendChunk(this.#fd, bytes, at, at === from ? fds : []);
        if (sent < 0) break;
        at += sent;
      }
    } catch (error) {
      if (!(error instanceof LinuxError) || error.code === 'EBADF') throw error;
      this.#end(error.code === 'EPIPE' ? { by: 'peer' } : { by: 'error', error });
      return 0;
    }
    return at - from;
  }

  #flush(): void {
    if (this.#queue.length === 0) return;
    while (this.#fd >= 0) {
      const head = this.#queue[0];
      if (head === undefined) break;
      const sent = this.#sendNow(head.bytes, head.from, head.fds);
      if (sent === 0) return;
      head.fds.forEach(closeFd);
      head.fds = [];
      head.from += sent;
      this.#queuedSize -= sent;
      if (head.from < head.bytes.length) return;
      this.#queue.shift();
    }
    this.#rearm();
    if (this.#fd >= 0) this.#onDrain?.();
  }

  #receive(): void {
    for (let turn = 0; turn < RECEIVES_PER_TURN && this.#fd >= 0; turn++) {
      let received;
      try {
        received = receiveChunk(this.#fd, this.#fdsMax);
      } catch (error) {
        if (!(error instanceof LinuxError)) throw error;
        this.#end(error.code === 'ECONNRESET' ? { by: 'peer' } : { by: 'error', error });
        return;
      }
      if (received === undefined) return;
      if (received.truncated) {
        received.fds.forEach(closeFd);
        const detail = `descriptors were lost: more than ${this.#fdsMax} in a message, or no room in this process`;
        this.#end({ by: 'error', error: new LinuxError('EMSGSIZE', 'recvmsg', detail) });
        return;
      }
      if (received.bytes.length === 0) {
        this.#end({ by: 'peer' });
        return;
      }
      this.#onData!(received.bytes, received.fds);
    }
  }

  #end(reason: CloseReason): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    this.#watch.close();
    closeFd(fd);
    for (const { fds } of this.#queue) fds.forEach(closeFd);
    this.#queue.length = 0;
    this.#queuedSize = 0;
    this.#reason = reason;
    if (this.#onClose !== undefined) this.#reportClose();
  }

  #reportClose(): void {
    const handler = this.#onClose!;
    const reason = this.#reason!;
    this.#onClose = () => {};
    queueMicrotask(() => handler(reason));
  }
}

/** All or none. */
function duplicates(fds: readonly number[]): number[] {
  const copies: number[] = [];
  try {
    for (const fd of fds) copies.push(dupFd(fd));
    return copies;
  } catch (error) {
    copies.forEach(closeFd);
    throw error;
  }
}
