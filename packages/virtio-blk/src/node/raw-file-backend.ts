import {
  close as closeFile,
  fdatasync,
  fstatSync,
  ftruncateSync,
  readSync,
  readvSync,
  writeSync,
  writevSync,
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
import type { BlockVector } from '../block-vector.ts';
import { FileOperations } from './file-operations.ts';
import { FileSpace } from './file-space.ts';
import { GroupFlush } from './group-flush.ts';
import {
  type OpenImage,
  type RawFileBackendOptions,
  asBackendError,
  openImage,
  presentSectors,
  requireCapacity,
  systemCall,
} from './raw-file-open.ts';

export type { RawFileBackendOptions } from './raw-file-open.ts';

export interface RawFileBackend extends BlockBackend {
  readonly path: string;
  /** Of the open image, until `close`; for `heldFd` of others. */
  readonly fd: number;
  readonly statistics: RawFileStatistics;
  /**
   * Makes the file, and the disk, so long; the device tells its driver. Requests beyond a new end fail. Throws
   * `BlkBackendError` with the errno (`EINVAL` for a device), and `RangeError` for a capacity that cannot be.
   */
  resize(capacitySectors: number): void;
  /** Takes over the size that somebody else gave the file or block device. */
  refresh(): void;
}

/** Counters since opening. */
export interface RawFileStatistics {
  /** System calls that failed, and those that failed because the disk is full. */
  readonly failures: number;
  readonly diskFull: number;
  /** Flushes asked for, and calls of fdatasync that served them. */
  readonly flushes: number;
  readonly syncs: number;
  /** Ranges given back as holes, and ranges zeroed without writing zeroes. */
  readonly holes: number;
  readonly zeroRanges: number;
}

/** What zeroes are written from. */
const ZERO_SIZE = 64 * 1024;

/**
 * Opens a file or block device as a disk. Data goes between the file and guest memory directly, several pieces in one
 * call. Flush is fdatasync, always on the thread pool; it covers every write, discard and write zeroes that had ended.
 * Discard makes holes, and so does write zeroes that may unmap; other zeroes become a zero range. Where the file system
 * cannot, discard does nothing, which §5.2.6.2 allows, and zeroes are written.
 *
 * Rejects with `BlkBackendError` whose code is the errno: `ENOENT`, `EACCES`, `EROFS`, `EISDIR` for a directory, `EINVAL`
 * for a file of less than a sector or less than `capacitySectors`, `EAGAIN` when the image is locked by somebody else,
 * `ENOSYS` when a lock is wanted and there is no FFI. Throws `RangeError` for bad options.
 */
export async function openRawFileBackend(options: RawFileBackendOptions): Promise<RawFileBackend> {
  const blockSize = requireBlockSize(options.blockSize ?? VIRTIO_BLK_SECTOR_SIZE, VIRTIO_BLK_SECTOR_SIZE);
  return new OpenRawFile(await openImage(options), blockSize, options);
}

class OpenRawFile implements RawFileBackend {
  readonly readOnly: boolean;
  readonly blockSize: number;
  readonly path: string;
  readonly #image: OpenImage;
  readonly #fd: number;
  readonly #onError: ((error: BlkBackendError) => void) | undefined;
  readonly #zeroes = new Uint8Array(ZERO_SIZE);
  readonly #flush: GroupFlush;
  readonly #space: FileSpace;
  /** Reads and writes on the thread pool; undefined when they are synchronous. */
  readonly #operations: FileOperations | undefined;
  #capacitySectors: number;
  #completion: BackendCompletion | undefined;
  #onCapacityChange: (() => void) | undefined;
  #failures = 0;
  #diskFull = 0;
  #holes = 0;
  #zeroRanges = 0;
  #closing: Promise<void> | undefined;

  constructor(image: OpenImage, blockSize: number, options: RawFileBackendOptions) {
    const { fd } = image;
    this.#image = image;
    this.#fd = fd;
    this.#capacitySectors = image.capacitySectors;
    this.blockSize = blockSize;
    this.readOnly = options.readOnly ?? false;
    this.path = options.path;
    this.#onError = options.onError;
    this.#space = new FileSpace(fd);
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

  get capacitySectors(): number {
    return this.#capacitySectors;
  }
  get fd(): number {
    return this.#fd;
  }
  get mayUnmap(): boolean {
    return this.#space.hasHoles;
  }

  get statistics(): RawFileStatistics {
    const { flushCount, syncCount } = this.#flush;
    return {
      failures: this.#failures,
      diskFull: this.#diskFull,
      flushes: flushCount,
      syncs: syncCount,
      holes: this.#holes,
      zeroRanges: this.#zeroRanges,
    };
  }

  onComplete(completion: BackendCompletion | undefined): void {
    this.#completion = completion;
  }
  onCapacityChange(listener: (() => void) | undefined): void {
    this.#onCapacityChange = listener;
  }

  read(region: MemoryRegion, offset: number, size: number, position: number, token: number): number {
    if (this.#operations !== undefined) {
      this.#operations.read(region.u8, offset, size, position, token);
      return BACKEND_PENDING;
    }
    try {
      return this.#readNow(region.u8, offset, size, position);
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

  readVector(vector: BlockVector, position: number, token: number): number {
    const pieces = viewsOf(vector);
    if (this.#operations !== undefined) {
      this.#operations.readVector(pieces, position, token);
      return BACKEND_PENDING;
    }
    try {
      const done = readvSync(this.#fd, pieces, position);
      return done === vector.totalSize ? VIRTIO_BLK_S_OK : this.#finishVector(pieces, done, position, false);
    } catch (error) {
      return this.#report('read', error);
    }
  }

  writeVector(vector: BlockVector, position: number, token: number): number {
    if (this.readOnly) return VIRTIO_BLK_S_IOERR;
    const pieces = viewsOf(vector);
    if (this.#operations !== undefined) {
      this.#operations.writeVector(pieces, position, token);
      return BACKEND_PENDING;
    }
    try {
      const done = writevSync(this.#fd, pieces, position);
      return done === vector.totalSize ? VIRTIO_BLK_S_OK : this.#finishVector(pieces, done, position, true);
    } catch (error) {
      return this.#report('write', error);
    }
  }

  flush(token: number): number {
    return this.#flush.add(token) ? BACKEND_PENDING : VIRTIO_BLK_S_IOERR;
  }

  discard(position: number, size: number): number {
    if (this.readOnly) return VIRTIO_BLK_S_IOERR;
    try {
      if (this.#space.punch(position, size)) this.#holes += 1;
      return VIRTIO_BLK_S_OK;
    } catch (error) {
      return this.#report('discard', error);
    }
  }

  writeZeroes(position: number, size: number, unmap: boolean, token: number): number {
    if (this.readOnly) return VIRTIO_BLK_S_IOERR;
    try {
      if (unmap && this.#space.punch(position, size)) {
        this.#holes += 1;
        return VIRTIO_BLK_S_OK;
      }
      if (this.#space.zero(position, size)) {
        this.#zeroRanges += 1;
        return VIRTIO_BLK_S_OK;
      }
    } catch (error) {
      return this.#report('write zeroes', error);
    }
    return this.#writeZeroBytes(position, size, token);
  }

  resize(capacitySectors: number): void {
    requireCapacity(capacitySectors);
    if (!this.#image.isRegular)
      throw new BlkBackendError('EINVAL', 'resize', this.path, `${this.path} is a device`);
    try {
      ftruncateSync(this.#fd, capacitySectors * VIRTIO_BLK_SECTOR_SIZE);
    } catch (error) {
      throw asBackendError(error, 'resize', this.path);
    }
    this.#setCapacity(capacitySectors);
  }

  refresh(): void {
    const present = presentSectors(fstatSync(this.#fd));
    if (present !== undefined) this.#setCapacity(present);
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

  #setCapacity(capacitySectors: number): void {
    if (capacitySectors === this.#capacitySectors) return;
    this.#capacitySectors = capacitySectors;
    this.#onCapacityChange?.();
  }

  #writeZeroBytes(position: number, size: number, token: number): number {
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

  /** Throws what the system call does. */
  #readNow(bytes: Uint8Array, offset: number, size: number, position: number): number {
    for (let done = 0; done < size;) {
      const count = readSync(this.#fd, bytes, offset + done, size - done, position + done);
      if (count === 0) return this.#endOfFile(position + done);
      done += count;
    }
    return VIRTIO_BLK_S_OK;
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

  /** What a vector's call left: piece by piece. */
  #finishVector(pieces: readonly Uint8Array[], done: number, position: number, isWrite: boolean): number {
    let skip = done;
    let at = position;
    for (const piece of pieces) {
      const from = Math.min(skip, piece.length);
      skip -= from;
      const status = isWrite
        ? this.#writeNow(piece, from, piece.length - from, at + from)
        : this.#readNow(piece, from, piece.length - from, at + from);
      if (status !== VIRTIO_BLK_S_OK) return status;
      at += piece.length;
    }
    return VIRTIO_BLK_S_OK;
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

function viewsOf(vector: BlockVector): Uint8Array[] {
  const views: Uint8Array[] = [];
  for (let index = 0; index < vector.count; index += 1) {
    const offset = vector.offset[index]!;
    views.push(vector.region[index]!.u8.subarray(offset, offset + vector.size[index]!));
  }
  return views;
}
