import { createRequire } from 'node:module';
import { isMainThread } from 'node:worker_threads';
import type * as Koffi from 'koffi';
import { LinuxError, linuxError } from './linux-error.ts';

/** Native memory: an address, or bytes of ours for the length of one call. */
type Pointer = bigint | Uint8Array | null;

/** The calls of libc that this package makes, under their C names. Failures return -1; see `lastError`. */
export interface LibC {
  memfd_create(name: string, flags: number): number;
  ftruncate(fd: number, size: number): number;
  fallocate(fd: number, mode: number, offset: number, size: number): number;
  flock(fd: number, operation: number): number;
  fcntl(fd: number, command: number, type: 'int', value: number): number;
  fstatfs(fd: number, into: Pointer): number;
  mmap(at: Pointer, size: number, protection: number, flags: number, fd: number, offset: number): bigint;
  munmap(at: Pointer, size: number): number;
  eventfd(initial: number, flags: number): number;
  eventfd_write(fd: number, value: number): number;
  read(fd: number, into: Pointer, size: number): number;
  preadv2(fd: number, vectors: Pointer, count: number, offset: number, flags: number): number;
  write(fd: number, from: Pointer, size: number): number;
  open(path: string, flags: number): number;
  ioctl(fd: number, request: number, type: 'void *' | 'unsigned long', value: Pointer | number): number;
  setns(fd: number, type: number): number;
  close(fd: number): number;
  poll(set: Pointer, count: number, timeoutMs: number): number;
  socket(domain: number, type: number, protocol: number): number;
  socketpair(domain: number, type: number, protocol: number, into: Pointer): number;
  bind(fd: number, address: Pointer, size: number): number;
  listen(fd: number, backlog: number): number;
  connect(fd: number, address: Pointer, size: number): number;
  accept4(fd: number, address: Pointer, size: Pointer, flags: number): number;
  getsockopt(fd: number, level: number, name: number, into: Pointer, size: Pointer): number;
  sendmsg(fd: number, message: Pointer, flags: number): number;
  recvmsg(fd: number, message: Pointer, flags: number): number;
  _exit(status: number): void;
}

export interface Ffi {
  readonly koffi: typeof Koffi;
  readonly libc: LibC;
}

export type FfiAvailability =
  | { readonly available: true }
  | { readonly available: false; readonly reason: string };

const PROTOTYPES: Readonly<Record<keyof LibC, string>> = {
  memfd_create: 'int memfd_create(const char *, unsigned int)',
  ftruncate: 'int ftruncate(int, long)',
  fallocate: 'int fallocate(int, int, long, long)',
  flock: 'int flock(int, int)',
  fcntl: 'int fcntl(int, int, ...)',
  fstatfs: 'int fstatfs(int, void *)',
  mmap: 'void *mmap(void *, unsigned long, int, int, int, long)',
  munmap: 'int munmap(void *, unsigned long)',
  eventfd: 'int eventfd(unsigned int, int)',
  eventfd_write: 'int eventfd_write(int, uint64_t)',
  read: 'long read(int, void *, unsigned long)',
  preadv2: 'long preadv2(int, void *, int, long, int)',
  write: 'long write(int, void *, unsigned long)',
  open: 'int open(const char *, int, ...)',
  ioctl: 'int ioctl(int, unsigned long, ...)',
  setns: 'int setns(int, int)',
  close: 'int close(int)',
  poll: 'int poll(void *, unsigned long, int)',
  socket: 'int socket(int, int, int)',
  socketpair: 'int socketpair(int, int, int, void *)',
  bind: 'int bind(int, void *, unsigned int)',
  listen: 'int listen(int, int)',
  connect: 'int connect(int, void *, unsigned int)',
  accept4: 'int accept4(int, void *, void *, int)',
  getsockopt: 'int getsockopt(int, int, int, void *, void *)',
  sendmsg: 'long sendmsg(int, void *, int)',
  recvmsg: 'long recvmsg(int, void *, int)',
  _exit: 'void _exit(int)',
};

/** dlopen(3), of glibc and musl alike. */
const RTLD_LAZY = 0x1;
const RTLD_NOLOAD = 0x4;
const RTLD_NODELETE = 0x1000;

/** Architectures whose kernel ABI has the layouts of kernel-abi.ts. */
const ARCHITECTURES: readonly string[] = ['x64', 'arm64', 'riscv64', 'loong64'];

let loaded: Ffi | { readonly reason: string } | undefined;

function load(): Ffi | { readonly reason: string } {
  if (process.env['VIRTLAB_NO_FFI'] === '1') {
    return { reason: 'The native FFI is switched off by VIRTLAB_NO_FFI=1' };
  }
  if (process.platform !== 'linux' || !ARCHITECTURES.includes(process.arch)) {
    return {
      reason: `Linux on ${ARCHITECTURES.join(', ')} is needed; this is ${process.platform} ${process.arch}`,
    };
  }
  try {
    const require = createRequire(import.meta.url);
    const koffi = require('koffi') as typeof Koffi;
    const library = koffi.load(null);
    if (!isMainThread) keepMapped(library, Object.keys(require.cache));
    const libc: Partial<Record<keyof LibC, unknown>> = {};
    for (const name of Object.keys(PROTOTYPES) as (keyof LibC)[]) libc[name] = library.func(PROTOTYPES[name]);
    return { koffi, libc: libc as LibC };
  } catch (error) {
    return {
      reason: `The native FFI (koffi) does not load: ${error instanceof Error ? error.message : String(error)}`,
    };
  }
}

/**
 * When the last thread that loaded a native module ends, Node unmaps it, and only then does libuv call what closes the handles
 * that the thread had open: the process would die of a jump into nothing. So what a worker loads stays, as what the main thread
 * loads does.
 */
function keepMapped(library: Koffi.LibraryHandle, modulePaths: readonly string[]): void {
  const dlopen = library.func('void *dlopen(const char *, int)') as (
    path: string,
    mode: number,
  ) => bigint | null;
  const path = modulePaths.findLast((each) => each.endsWith('koffi.node'));
  const isKept = path !== undefined && Boolean(dlopen(path, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE));
  if (!isKept)
    throw new Error('its library is not found, and would be gone before the handles of this thread');
}

/**
 * Whether this machine can make the kernel calls of this package. Loads the FFI on the first call; never
 * throws.
 */
export function linuxFfi(): FfiAvailability {
  loaded ??= load();
  return 'reason' in loaded ? { available: false, reason: loaded.reason } : { available: true };
}

/** The FFI, or a `LinuxError` `ENOSYS` that says what is not possible here. */
export function ffi(what: string): Ffi {
  loaded ??= load();
  if ('reason' in loaded) throw new LinuxError('ENOSYS', what, `not possible here: ${loaded.reason}`);
  return loaded;
}

/** errno of the call of this thread that has just failed. */
export function lastErrno(): number {
  return ffi('errno').koffi.errno();
}

/** The error of the call of this thread that has just failed. */
export function lastError(syscall: string, detail: string = ''): LinuxError {
  return linuxError(lastErrno(), syscall, detail);
}
