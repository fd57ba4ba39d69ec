import { ffi, lastErrno, lastError, type Ffi } from './ffi.ts';
import {
  AF_UNIX,
  CMSG_DATA,
  CMSG_LEVEL,
  CMSG_TYPE,
  EAGAIN,
  EINTR,
  IOVEC_SIZE,
  MSGHDR_CONTROL,
  MSGHDR_CONTROLLEN,
  MSGHDR_FLAGS,
  MSGHDR_IOV,
  MSGHDR_IOVLEN,
  MSGHDR_SIZE,
  MSG_CMSG_CLOEXEC,
  MSG_CTRUNC,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  POLLFD_SIZE,
  POLLHUP,
  SCM_MAX_FD,
  SCM_RIGHTS,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
  SO_PEERCRED,
  UCRED_SIZE,
  UNIX_PATH_MAX,
} from './kernel-abi.ts';
import { LinuxError, linuxError } from './linux-error.ts';

/** Bytes of one sendmsg or recvmsg at most. */
export const MESSAGE_CHUNK_SIZE = 65536;

const CONTROL_SIZE = CMSG_DATA + 4 * SCM_MAX_FD + 4;
const IOVEC_AT = MSGHDR_SIZE;
const CONTROL_AT = IOVEC_AT + IOVEC_SIZE;
const DATA_AT: number = CONTROL_AT + CONTROL_SIZE;

/**
 * One message header, its descriptors and its bytes in native memory with fixed addresses, used by every
 * socket of this thread in turn: a call is then three integers, and the kernel never sees memory that the
 * collector moves.
 */
class MessageArea {
  readonly at: bigint;
  readonly data: Uint8Array;
  readonly #view: DataView;

  constructor({ koffi }: Ffi) {
    const size = DATA_AT + MESSAGE_CHUNK_SIZE;
    this.at = koffi.alloc('uint8_t', size) as bigint;
    const buffer = koffi.view(this.at, size);
    new Uint8Array(buffer).fill(0);
    this.data = new Uint8Array(buffer, DATA_AT, MESSAGE_CHUNK_SIZE);
    this.#view = new DataView(buffer);
    this.#view.setBigUint64(MSGHDR_IOV, this.at + BigInt(IOVEC_AT), true);
    this.#view.setBigUint64(MSGHDR_IOVLEN, 1n, true);
    this.#view.setBigUint64(IOVEC_AT, this.at + BigInt(DATA_AT), true);
  }

  /** `controlSize` 0 means no ancillary data. */
  prepare(size: number, controlSize: number): void {
    const view = this.#view;
    view.setBigUint64(IOVEC_AT + 8, BigInt(size), true);
    view.setBigUint64(MSGHDR_CONTROL, controlSize === 0 ? 0n : this.at + BigInt(CONTROL_AT), true);
    view.setBigUint64(MSGHDR_CONTROLLEN, BigInt(controlSize), true);
    view.setInt32(MSGHDR_FLAGS, 0, true);
  }

  putFds(fds: readonly number[]): void {
    const view = this.#view;
    view.setBigUint64(CONTROL_AT, BigInt(CMSG_DATA + 4 * fds.length), true);
    view.setInt32(CONTROL_AT + CMSG_LEVEL, SOL_SOCKET, true);
    view.setInt32(CONTROL_AT + CMSG_TYPE, SCM_RIGHTS, true);
    fds.forEach((fd, index) => view.setInt32(CONTROL_AT + CMSG_DATA + 4 * index, fd, true));
  }

  /**
   * The descriptors of the message just received: only SCM_RIGHTS is ever enabled, so there is at most one
   * header.
   */
  takeFds(): number[] {
    const view = this.#view;
    if (Number(view.getBigUint64(MSGHDR_CONTROLLEN, true)) < CMSG_DATA) return [];
    if (view.getInt32(CONTROL_AT + CMSG_LEVEL, true) !== SOL_SOCKET) return [];
    if (view.getInt32(CONTROL_AT + CMSG_TYPE, true) !== SCM_RIGHTS) return [];
    const count = Math.floor((Number(view.getBigUint64(CONTROL_AT, true)) - CMSG_DATA) / 4);
    return Array.from({ length: count }, (_, index) =>
      view.getInt32(CONTROL_AT + CMSG_DATA + 4 * index, true),
    );
  }

  get truncated(): boolean {
    return (this.#view.getInt32(MSGHDR_FLAGS, true) & MSG_CTRUNC) !== 0;
  }
}

let sharedArea: MessageArea | undefined;

function area(native: Ffi): MessageArea {
  sharedArea ??= new MessageArea(native);
  return sharedArea;
}

/** A new stream socket, non-blocking and close-on-exec. */
export function unixSocket(): number {
  const fd = ffi('socket').libc.socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) throw lastError('socket');
  return fd;
}

/** Two connected stream sockets, non-blocking and close-on-exec. The caller owns both. */
export function socketPair(): [number, number] {
  const fds = new Int32Array(2);
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  if (ffi('socketpair').libc.socketpair(AF_UNIX, type, 0, new Uint8Array(fds.buffer)) < 0) {
    throw lastError('socketpair');
  }
  return [fds[0]!, fds[1]!];
}

/** struct sockaddr_un of a path. Throws `LinuxError` `ENAMETOOLONG` for more than 107 bytes. */
export function unixAddress(path: string): Uint8Array {
  const name = new TextEncoder().encode(path);
  if (name.length === 0 || name.includes(0))
    throw new TypeError(`Not a socket path: ${JSON.stringify(path)}`);
  if (name.length >= UNIX_PATH_MAX) {
    throw new LinuxError(
      'ENAMETOOLONG',
      'bind',
      `socket path of ${name.length} bytes, at most ${UNIX_PATH_MAX - 1}: ${path}`,
    );
  }
  const address = new Uint8Array(2 + name.length + 1);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, 2);
  return address;
}

/** The errno of connect(2), or 0. */
export function connectUnix(fd: number, path: string): number {
  const address = unixAddress(path);
  const { libc } = ffi('connect');
  while (libc.connect(fd, address, address.length) < 0) {
    const errno = lastErrno();
    if (errno !== EINTR) return errno;
  }
  return 0;
}

/**
 * Never by the descriptor's own flag: O_NONBLOCK belongs to the open file, so whoever sent us a socket can take it off.
 */
const SEND_FLAGS = MSG_NOSIGNAL | MSG_DONTWAIT;
const RECEIVE_FLAGS = MSG_CMSG_CLOEXEC | MSG_DONTWAIT;

/**
 * Sends up to a chunk of `bytes` from `from`, with `fds` on the first byte. The bytes taken, or -1 when it
 * would block.
 */
export function sendChunk(fd: number, bytes: Uint8Array, from: number, fds: readonly number[]): number {
  const native = ffi('sendmsg');
  const message = area(native);
  const size = Math.min(MESSAGE_CHUNK_SIZE, bytes.length - from);
  message.data.set(from === 0 && size === bytes.length ? bytes : bytes.subarray(from, from + size));
  message.prepare(size, fds.length === 0 ? 0 : CMSG_DATA + 4 * fds.length);
  if (fds.length > 0) message.putFds(fds);
  for (;;) {
    const sent = native.libc.sendmsg(fd, message.at, SEND_FLAGS);
    if (sent >= 0) return sent;
    const errno = lastErrno();
    if (errno === EAGAIN) return -1;
    if (errno !== EINTR) throw linuxError(errno, 'sendmsg');
  }
}

export interface Received {
  /** A copy, owned by the caller. Empty at the end of the stream. */
  readonly bytes: Uint8Array;
  /** Close-on-exec, owned by the caller. */
  readonly fds: number[];
  /** Descriptors were lost: more than `fdsMax`, or no room in this process. */
  readonly truncated: boolean;
}

/** Receives up to a chunk; undefined when it would block. */
export function receiveChunk(fd: number, fdsMax: number): Received | undefined {
  const native = ffi('recvmsg');
  const message = area(native);
  for (;;) {
    message.prepare(MESSAGE_CHUNK_SIZE, fdsMax === 0 ? 0 : CMSG_DATA + 4 * fdsMax);
    const size = native.libc.recvmsg(fd, message.at, RECEIVE_FLAGS);
    if (size >= 0) {
      return { bytes: message.data.slice(0, size), fds: message.takeFds(), truncated: message.truncated };
    }
    const errno = lastErrno();
    if (errno === EAGAIN) return undefined;
    if (errno !== EINTR) throw linuxError(errno, 'recvmsg');
  }
}

/** Whether the other end is closed: all that it sent can be read, and nobody hears what is sent. */
export function hasHungUp(fd: number): boolean {
  const set = new Int32Array([fd, 0]);
  const bytes = new Uint8Array(set.buffer, 0, POLLFD_SIZE);
  const { libc } = ffi('poll');
  while (libc.poll(bytes, 1, 0) < 0) {
    if (lastErrno() !== EINTR) throw lastError('poll');
  }
  return (new Int16Array(set.buffer)[3]! & POLLHUP) !== 0;
}

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** Who connected, as the kernel recorded it at connect(2) or socketpair(2). */
export function peerCredentials(fd: number): PeerCredentials {
  const credentials = new Int32Array(UCRED_SIZE / 4);
  const size = new Uint32Array([UCRED_SIZE]);
  const into = new Uint8Array(credentials.buffer);
  const { libc } = ffi('getsockopt');
  if (libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, into, new Uint8Array(size.buffer)) < 0) {
    throw lastError('getsockopt(SO_PEERCRED)');
  }
  return { pid: credentials[0]!, uid: credentials[1]! >>> 0, gid: credentials[2]! >>> 0 };
}
