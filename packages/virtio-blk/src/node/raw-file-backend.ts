import {
  close as closeFile,
  constants,
  fdatasync,
  fstat,
  ftruncate,
  open,
  readSync,
  type Stats,
  writeSync,
} from 'node:fs';
import { promisify } from 'node:util';
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import type { MemoryRegion } from '@virtlab/guest-memory';
import {
  BACKEND_PENDING,
  type BackendCompletion,
  BlkBackendError,
  type BlockBackend,
  requireBlockSize,
} from '../backend.ts';
import { FileOperations } from './file-operations.ts';
import { GroupFlush } from './group-flush.ts';

export interface RawFileBackendOptions {
  /** The image: sector n is at byte 512 n. */
  readonly path: string;
  /** Opens the file for reading only. Default false. */
  readonly readOnly?: boolean;
  /** Creates the file with this many bytes, all holes, when there is none; an existing one is taken as it is. */
  readonly createSize?: number;
  /** For special files, whose size the file system does not tell. A regular file must have at least as many. */
  readonly capacitySectors?: number;
  /** Default 512. */
  readonly blockSize?: number;
  /**
   * `sync` (the default): reads and writes end at once, through the page cache, and the loop waits for them.
   * `threads`: they run on Node's thread pool, several at a time; for storage that is slow.
   */
  readonly io?: 'sync' | 'threads';
  /** Told of each system call that failed, beside the IOERR that the driver sees. */
  readonly onError?: (error: BlkBackendError) => void;
}

export interface RawFileBackend extends BlockBackend {
  readonly path: string;
  readonly statistics: RawFileStatistics;
}

/** Counters since opening. */
export interface RawFileStatistics {
  /** System calls that failed, and those that failed because the disk is full. */
  readonly failures: number;
  readonly diskFull: number;
  /** Flushes asked for, and calls of fdatasync that served them. */
  readonly flushes: number;
  readonly syncs: number;
}

/** What zeroes are written from. */
const ZERO_SIZE = 64 * 1024;

/**
 * Opens a file as a disk. Data goes between the file and guest memory directly. Flush is fdatasync, always on the
 * thread pool. Discard does nothing, which §5.2.6.2 allows; write zeroes writes zeroes.
 *
 * Nothing keeps another process from opening the same file: Node has no file locks. The caller sees to that.
 *
 * Rejects with `BlkBackendError` whose code is the errno: `ENOENT`, `EACCES`, `EROFS`, `EISDIR` for a directory, `EINVAL`
 * for a file of less than a sector or less than `capacitySectors`. Throws `RangeError` for bad options.
 */
export async function openRawFileBackend(options: RawFileBackendOptions): Promise<RawFileBackend> {
  const blockSize = requireBlockSize(options.blockSize ?? VIRTIO_BLK_SECTOR_SIZE, VIRTIO_BLK_SECTOR_SIZE);
  const fd = await openImage(options);
  try {
    const capacitySectors = capacityOf(options, await systemCall('stat', options.path, promisify(fstat)(fd)));
    return new OpenRawFile(fd, capacitySectors, blockSize, options);
  } catch (error) {
    await promisify(closeFile)(fd);
    throw error;
  }
}

const openFile = promisify(open);

async function openImage({ path, readOnly = false, createSize }: RawFileBackendOptions): Promise<number> {
  // Not to wait in open for the other end, should the path be a pipe.
  const flags = (readOnly ? constants.O_RDONLY : constants.O_RDWR) | constants.O_NONBLOCK;
  if (createSize === undefined) return await systemCall('open', path, openFile(path, flags));
  if (readOnly || !Number.isSafeInteger(createSize) || createSize < VIRTIO_BLK_SECTOR_SIZE) {
    throw new RangeError(`createSize ${createSize} is not a size of one sector or more of a writable image`);
  }
  try {
    const fd = await openFile(path, flags | constants.O_CREAT | constants.O_EXCL, 0o600);
    await sizeImage(fd, createSize);
    return fd;
  } catch (error) {
    if (!isErrno(error) || error.code !== 'EEXIST') throw asBackendError(error, 'create', path);
    return await systemCall('open', path, openFile(path, flags));
  }
}

async function sizeImage(fd: number, size: number): Promise<void> {
  try {
    await promisify(ftruncate)(fd, size);
  } catch (error) {
    await promisify(closeFile)(fd);
    throw error;
  }
}

function capacityOf({ path, capacitySectors }: RawFileBackendOptions, stats: Stats): number {
  const refuse = (code: string, why: string): BlkBackendError =>
    new BlkBackendError(code, 'open', path, `${path} ${why}`);
  if (stats.isDirectory()) throw refuse('EISDIR', 'is a directory');
  const isSpecial = stats.isBlockDevice() || stats.isCharacterDevice();
  if (!isSpecial && !stats.isFile()) throw refuse('EINVAL', 'is not a file or a device');
  if (isSpecial) {
    if (capacitySectors === undefined) throw refuse('EINVAL', 'is a device: its capacity must be given');
    return requireCapacity(capacitySectors);
  }
  const present = Math.floor(stats.size / VIRTIO_BLK_SECTOR_SIZE);
  if (present < 1) throw refuse('EINVAL', `holds ${stats.size} bytes, less than a sector`);
  if (capacitySectors === undefined) return present;
  if (requireCapacity(capacitySectors) > present) {
    throw refuse('EINVAL', `holds ${present} sectors, less than the ${capacitySectors} asked for`);
  }
  return capacitySectors;
}

function requireCapacity(capacitySectors: number): number {
  if (Number.isInteger(capacitySectors) && capacitySectors >= 1 && capacitySectors <= 2 ** 44)
    return capacitySectors;
  throw new RangeError(`capacity of ${capacitySectors} sectors is not from 1 to 2^44`);
}

class OpenRawFile implements RawFileBackend {
  readonly capacitySectors: number;
  readonly readOnly: boolean;
  readonly blockSize: number;
  readonly path: string;
  readonly #fd: number;
  readonly #onError: ((error: BlkBackendError) => void) | undefined;
  readonly #zeroes = new Uint8Array(ZERO_SIZE);
  readonly #flush: GroupFlush;
  /** Reads and writes on the thread pool; undefined when they are synchronous. */
  readonly #operations: FileOperations | undefined;
  #completion: BackendCompletion | undefined;
  #failures = 0;
  #diskFull = 0;
  #closing: Promise<void> | undefined;

  constructor(fd: number, capacitySectors: number, blockSize: number, options: RawFileBackendOptions) {
    this.#fd = fd;
    this.capacitySectors = capacitySectors;
    this.blockSize = blockSize;
    this.readOnly = options.readOnly ?? false;
    this.path = options.path;
    this.#onError = options.onError;
    const ended = (token: number, status: number): void => this.#completion?.(token, status);
    this.#flush = new GroupFlush(
      (done) => fdatasync(fd, done),
      ended,
      (error) => this.#report('flush', error),
    );
    if (options.io === 'threads') {
      this.#operations = new FileOperations(fd, ended, (operation, error) => this.#report(operation, error));
    }
  }

  get statistics(): RawFileStatistics {
    const { flushCount, syncCount } = this.#flush;
    return { failures: this.#failures, diskFull: this.#diskFull, flushes: flushCount, syncs: syncCount };
  }

  onComplete(completion: BackendCompletion | undefined): void {
    this.#completion = completion;
  }

  read(region: MemoryRegion, offset: number, size: number, position: number, token: number): number {
    if (this.#operations !== undefined) {
      this.#operations.read(region.u8, offset, size, position, token);
      return BACKEND_PENDING;
    }
    try {
      for (let done = 0; done < size;) {
        const count = readSync(this.#fd, region.u8, offset + done, size - done, position + done);
        if (count === 0) return this.#endOfFile(position + done);
        done += count;
      }
      return VIRTIO_BLK_S_OK;
    } catch (error) {
      return this.#report('read', error);
    }
  }

  write(region: MemoryRegion, offset: number, size: number, position: number, token: number): number {
    if (this.readOnly) return VIRTIO_BLK_S_IOERR;
    if (this.#operations !== undefined) {
      this.#operations.write(region.u8, offset, size, position, token);
      return BACKEND_PENDING;
    }
    return this.#writeNow(region.u8, offset, size, position);
  }

  flush(token: number): number {
    return this.#flush.add(token) ? BACKEND_PENDING : VIRTIO_BLK_S_IOERR;
  }

  discard(): number {
    return this.readOnly ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
  }

  writeZeroes(position: number, size: number, _unmap: boolean, token: number): number {
    if (this.readOnly) return VIRTIO_BLK_S_IOERR;
    if (this.#operations !== undefined) {
      this.#operations.writeRepeated(this.#zeroes, size, position, token);
      return BACKEND_PENDING;
    }
    let status: number = VIRTIO_BLK_S_OK;
    for (let done = 0; done < size && status === VIRTIO_BLK_S_OK; done += ZERO_SIZE) {
      status = this.#writeNow(this.#zeroes, 0, Math.min(ZERO_SIZE, size - done), position + done);
    }
    return status;
  }

  submit(): void {
    this.#flush.submit();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#flush.submit();
    await this.#operations?.drain();
    await this.#flush.drain();
    await systemCall('close', this.path, promisify(closeFile)(this.#fd));
  }

  /** A write may take less than it was given (full disk, size limit, interruption); the rest tells why. */
  #writeNow(bytes: Uint8Array, offset: number, size: number, position: number): number {
    try {
      for (let done = 0; done < size;) {
        const count = writeSync(this.#fd, bytes, offset + done, size - done, position + done);
        if (count === 0) throw new Error(`${this.path} takes no bytes at byte ${position + done}`);
        done += count;
      }
      return VIRTIO_BLK_S_OK;
    } catch (error) {
      return this.#report('write', error);
    }
  }

  #endOfFile(position: number): number {
    const message = `${this.path} ends at byte ${position}: it was truncated while in use`;
    return this.#report('read', new BlkBackendError('EIO', 'read', this.path, message));
  }

  #report(operation: string, error: unknown): number {
    const failure = asBackendError(error, operation, this.path);
    this.#failures += 1;
    if (failure.code === 'ENOSPC' || failure.code === 'EDQUOT') this.#diskFull += 1;
    this.#onError?.(failure);
    return VIRTIO_BLK_S_IOERR;
  }
}

function isErrno(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).code === 'string';
}

function asBackendError(error: unknown, operation: string, path: string): BlkBackendError {
  if (error instanceof BlkBackendError) return error;
  const code = isErrno(error) ? error.code! : 'EIO';
  return new BlkBackendError(code, operation, path, `${operation} of ${path} failed`, { cause: error });
}

async function systemCall<T>(operation: string, path: string, call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    throw asBackendError(error, operation, path);
  }
}
