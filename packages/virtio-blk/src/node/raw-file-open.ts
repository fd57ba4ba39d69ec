import { readFileSync } from 'node:fs';
import { close as closeFile, constants, fstat, ftruncate, open, type Stats } from 'node:fs';
import { promisify } from 'node:util';
import { VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import { LinuxError, tryLockFile } from '@virtlab/linux';
import { BlkBackendError } from '../backend.ts';

export interface RawFileBackendOptions {
  /** The image: sector n is at byte 512 n. A file or a block device. */
  readonly path: string;
  /**
   * The image as this process has it open already: opens that file once more, whatever is at `path` by now. `path` is its name in
   * messages then, and nothing is created. Stays the caller's, and is not needed afterwards.
   */
  readonly heldFd?: number;
  /** Opens the file for reading only. Default false. */
  readonly readOnly?: boolean;
  /** Creates the file with this many bytes, all holes, when there is none; an existing one is taken as it is. */
  readonly createSize?: number;
  /**
   * For character devices, whose size nobody tells. A file or block device must have at least as many; default all it has.
   */
  readonly capacitySectors?: number;
  /** Default 512. */
  readonly blockSize?: number;
  /**
   * `sync` (the default): reads and writes end at once, through the page cache, and the loop waits for them.
   * `threads`: they run on Node's thread pool, several at a time; for storage that is slow.
   */
  readonly io?: 'sync' | 'threads';
  /**
   * Takes an flock(2) on the image, exclusive or, for reading only, shared: it keeps out everybody else who asks for one.
   * Needs the FFI. Default false.
   */
  readonly lock?: boolean;
  /** Told of each system call that failed, beside the IOERR that the driver sees. */
  readonly onError?: (error: BlkBackendError) => void;
}

export interface OpenImage {
  readonly fd: number;
  readonly capacitySectors: number;
  /** Can be made longer and shorter. */
  readonly isRegular: boolean;
}

/** Rejects as `openRawFileBackend`. The caller owns the descriptor. */
export async function openImage(options: RawFileBackendOptions): Promise<OpenImage> {
  const fd = await openOrCreate(options);
  try {
    const stats = await systemCall('stat', options.path, promisify(fstat)(fd));
    const capacitySectors = capacityOf(options, stats);
    if (options.lock === true) lockImage(fd, options);
    return { fd, capacitySectors, isRegular: stats.isFile() };
  } catch (error) {
    await promisify(closeFile)(fd);
    throw error;
  }
}

const openFile = promisify(open);

async function openOrCreate(options: RawFileBackendOptions): Promise<number> {
  const { path, heldFd, readOnly = false, createSize } = options;
  // Not to wait in open for the other end, should the path be a pipe.
  const flags = (readOnly ? constants.O_RDONLY : constants.O_RDWR) | constants.O_NONBLOCK;
  if (heldFd !== undefined) return await systemCall('open', path, openFile(`/proc/self/fd/${heldFd}`, flags)); // proc(5)
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
  if (stats.isCharacterDevice()) {
    if (capacitySectors === undefined)
      throw refuse('EINVAL', 'is a character device: its capacity must be given');
    return requireCapacity(capacitySectors);
  }
  if (!stats.isBlockDevice() && !stats.isFile()) throw refuse('EINVAL', 'is not a file or a device');
  const present = presentSectors(stats);
  if (present === undefined) throw refuse('EINVAL', 'is a block device of which /sys does not tell the size');
  if (present < 1) throw refuse('EINVAL', `holds ${stats.size} bytes, less than a sector`);
  if (capacitySectors === undefined) return present;
  if (requireCapacity(capacitySectors) > present) {
    throw refuse('EINVAL', `holds ${present} sectors, less than the ${capacitySectors} asked for`);
  }
  return capacitySectors;
}

/** How many a file or block device has now; undefined where nobody tells. */
export function presentSectors(stats: Stats): number | undefined {
  if (stats.isFile()) return Math.floor(stats.size / VIRTIO_BLK_SECTOR_SIZE);
  return stats.isBlockDevice() ? blockDeviceSectors(stats.rdev) : undefined;
}

/** sysfs counts in 512 bytes whatever the device's blocks are. Major and minor are packed as in Linux' new_encode_dev. */
function blockDeviceSectors(rdev: number): number | undefined {
  const major = Math.floor(rdev / 2 ** 8) & 0xfff;
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xff_ff00);
  try {
    return Number(readFileSync(`/sys/dev/block/${major}:${minor}/size`, 'utf8'));
  } catch {
    return undefined;
  }
}

export function requireCapacity(capacitySectors: number): number {
  if (Number.isInteger(capacitySectors) && capacitySectors >= 1 && capacitySectors <= 2 ** 44)
    return capacitySectors;
  throw new RangeError(`capacity of ${capacitySectors} sectors is not from 1 to 2^44`);
}

function lockImage(fd: number, { path, readOnly = false }: RawFileBackendOptions): void {
  let isLocked: boolean;
  try {
    isLocked = tryLockFile(fd, readOnly ? 'shared' : 'exclusive');
  } catch (error) {
    throw asBackendError(error, 'lock', path);
  }
  if (!isLocked)
    throw new BlkBackendError('EAGAIN', 'lock', path, `${path} is locked: somebody else uses it`);
}

function isErrno(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).code === 'string';
}

export function asBackendError(error: unknown, operation: string, path: string): BlkBackendError {
  if (error instanceof BlkBackendError) return error;
  const code = error instanceof LinuxError || isErrno(error) ? error.code! : 'EIO';
  return new BlkBackendError(code, operation, path, `${operation} of ${path} failed`, { cause: error });
}

export async function systemCall<T>(operation: string, path: string, call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    throw asBackendError(error, operation, path);
  }
}
