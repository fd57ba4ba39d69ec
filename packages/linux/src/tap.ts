import { ffi, lastErrno, lastError, type LibC } from './ffi.ts';
import { closeFd } from './fd.ts';
import * as abi from './kernel-abi.ts';
import { LinuxError } from './linux-error.ts';
import { inNetworkNamespace } from './network-namespace.ts';

/** Bytes of the header before each frame: struct virtio_net_hdr_v1, little-endian. */
export const TAP_HEADER_SIZE = 12;
/** Bytes of the largest frame: 64 KiB of IP with headers that TCP segmentation leaves whole, and a VLAN tag. */
export const TAP_FRAME_SIZE_MAX = 65_589;

/** `TapDevice.read`: nothing there now, or the interface is gone for good. */
export const TAP_EMPTY = -1;
export const TAP_CLOSED = -2;

export interface TapOptions {
  /** The interface: an existing TAP interface of nobody's, or a new one that lives as long as this object. At most 15 bytes. */
  readonly name: string;
  /** Where: `/run/netns/<name>` or `/proc/<pid>/ns/net`. Default: the namespace of this process. */
  readonly namespace?: string;
  /** IFF_MULTI_QUEUE: further objects of the same name are further queues; the kernel steers by flow. Default false. */
  readonly isMultiQueue?: boolean;
}

/** What the kernel may hand over unfinished in `TapDevice.read`; what it takes in `write` is not limited. */
export interface TapOffloads {
  readonly checksum: boolean;
  readonly tso4: boolean;
  readonly tso6: boolean;
  readonly ecn: boolean;
  /** Both versions of IP: the kernel knows no other way. */
  readonly uso: boolean;
}

/**
 * A TAP interface (linux/Documentation/networking/tuntap.rst): Ethernet frames of the kernel's network stack, each behind a
 * virtio-net header. One call reads or writes one frame; neither blocks. Owns its descriptor until `close`; a
 * new interface goes away with it, also when the process is killed.
 */
export class TapDevice implements Disposable {
  readonly name: string;
  readonly #libc: LibC;
  #fd: number;

  private constructor(libc: LibC, fd: number, name: string) {
    this.#libc = libc;
    this.#fd = fd;
    this.name = name;
  }

  /**
   * Throws `RangeError` for a name that no interface can have, and `LinuxError`: `EPERM` without CAP_NET_ADMIN (or the
   * interface is another user's), `EBUSY` when somebody has it open, `EINVAL` when it exists and is no such TAP,
   * `ENOENT` or `ENODEV` without the kernel's tun driver.
   */
  static open(options: TapOptions): TapDevice {
    const { name, namespace } = options;
    const bytes = new TextEncoder().encode(name);
    if (bytes.length === 0 || bytes.length >= abi.IFNAMSIZ || /[/\s\0%]/.test(name)) {
      throw new RangeError(`${JSON.stringify(name)} is no name for an interface`);
    }
    const open = (): TapDevice => TapDevice.#open(options, bytes);
    return namespace === undefined ? open() : inNetworkNamespace(namespace, open);
  }

  static #open({ name, isMultiQueue = false }: TapOptions, bytes: Uint8Array): TapDevice {
    const { libc } = ffi('open');
    const fd = libc.open('/dev/net/tun', abi.O_RDWR | abi.O_NONBLOCK | abi.O_CLOEXEC);
    if (fd < 0) throw lastError('open', '/dev/net/tun');
    try {
      const request = new Uint8Array(abi.IFREQ_SIZE);
      request.set(bytes);
      const flags = abi.IFF_TAP | abi.IFF_NO_PI | abi.IFF_VNET_HDR | (isMultiQueue ? abi.IFF_MULTI_QUEUE : 0);
      new DataView(request.buffer).setInt16(abi.IFREQ_FLAGS, flags, true);
      if (libc.ioctl(fd, abi.TUNSETIFF, 'void *', request) < 0) {
        throw lastError(
          'ioctl(TUNSETIFF)',
          `TAP interface ${name}: CAP_NET_ADMIN and an unused name are needed`,
        );
      }
      setInt(libc, fd, abi.TUNSETVNETHDRSZ, 'TUNSETVNETHDRSZ', TAP_HEADER_SIZE);
      setInt(libc, fd, abi.TUNSETVNETLE, 'TUNSETVNETLE', 1);
      const tap = new TapDevice(libc, fd, name);
      tap.setOffloads({ checksum: false, tso4: false, tso6: false, ecn: false, uso: false });
      return tap;
    } catch (error) {
      closeFd(fd);
      throw error;
    }
  }

  /** The descriptor, or -1 after `close`. */
  get fd(): number {
    return this.#fd;
  }

  /**
   * What `read` may hand over unfinished from now on; segmentation needs `checksum`. Answers whether the kernel can do it
   * all: before Linux 6.2 it segments UDP itself, which is what false says, and of an interface that was deleted nothing is left.
   */
  setOffloads({ checksum, tso4, tso6, ecn, uso }: TapOffloads): boolean {
    if (!checksum) return this.#setOffload(0);
    const base =
      abi.TUN_F_CSUM |
      (tso4 ? abi.TUN_F_TSO4 : 0) |
      (tso6 ? abi.TUN_F_TSO6 : 0) |
      (ecn && (tso4 || tso6) ? abi.TUN_F_TSO_ECN : 0);
    if (!uso) return this.#setOffload(base);
    return this.#setOffload(base | abi.TUN_F_USO4 | abi.TUN_F_USO6) || (this.#setOffload(base), false);
  }

  /**
   * Takes the next frame, header first, into `into`, which has room for the largest. Bytes in all, or `TAP_EMPTY`, or
   * `TAP_CLOSED` when the interface was deleted.
   */
  read(into: Uint8Array): number {
    for (;;) {
      const size = this.#fd < 0 ? -1 : this.#libc.read(this.#fd, into, into.length);
      if (size >= 0) return size;
      if (this.#fd < 0) return TAP_CLOSED;
      const errno = lastErrno();
      if (errno === abi.EAGAIN || errno === abi.ENOBUFS) return TAP_EMPTY;
      if (errno === abi.EBADFD || errno === abi.EIO) return TAP_CLOSED;
      if (errno !== abi.EINTR) throw lastError('read', `TAP interface ${this.name}`);
    }
  }

  /**
   * Gives the kernel the first `size` bytes of `from`: a header and a frame. False when it did not take them: no memory,
   * interface down or deleted, or a header that it finds wrong.
   */
  write(from: Uint8Array, size: number): boolean {
    for (;;) {
      if (this.#fd < 0) return false;
      if (this.#libc.write(this.#fd, from, size) >= 0) return true;
      if (lastErrno() !== abi.EINTR) return false;
    }
  }

  /** Closes the descriptor; further calls do nothing. */
  close(): void {
    const fd = this.#fd;
    if (fd < 0) return;
    this.#fd = -1;
    closeFd(fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #setOffload(flags: number): boolean {
    if (this.#fd < 0)
      throw new LinuxError('EBADF', 'ioctl(TUNSETOFFLOAD)', `TAP interface ${this.name} is closed`);
    if (this.#libc.ioctl(this.#fd, abi.TUNSETOFFLOAD, 'unsigned long', flags) >= 0) return true;
    const errno = lastErrno();
    if (errno === abi.EINVAL || errno === abi.EBADFD) return false;
    throw lastError('ioctl(TUNSETOFFLOAD)', `TAP interface ${this.name}`);
  }
}

function setInt(libc: LibC, fd: number, request: number, name: string, value: number): void {
  const words = Int32Array.of(value);
  if (libc.ioctl(fd, request, 'void *', new Uint8Array(words.buffer)) < 0) throw lastError(`ioctl(${name})`);
}
