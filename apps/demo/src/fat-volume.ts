import * as FatFs from 'js-fatfs';

/** A disk that answers at once: the domain's one vCPU waits for the device, as a polling driver does. */
export interface SynchronousDisk {
  readonly sectorCount: number;
  /** 512-byte sectors, `bytes.length` a multiple. */
  readSync(sector: number, bytes: Uint8Array): void;
  writeSync(sector: number, bytes: Uint8Array): void;
  flushSync(): void;
}

const SECTOR_SIZE = 512;
const WORK_SIZE = 64 * 1024;
const NAMES = [
  'FR_OK',
  'FR_DISK_ERR',
  'FR_INT_ERR',
  'FR_NOT_READY',
  'FR_NO_FILE',
  'FR_NO_PATH',
  'FR_INVALID_NAME',
  'FR_DENIED',
  'FR_EXIST',
];

/** A FAT filesystem (FatFs) on a virtio disk. */
export class FatVolume implements Disposable {
  readonly #ff: FatFs.FatFs;
  readonly #scratch: number;
  readonly #failure: { error: unknown };
  #mounted = 0;

  private constructor(ff: FatFs.FatFs, failure: { error: unknown }) {
    this.#ff = ff;
    this.#failure = failure;
    this.#scratch = ff.malloc(WORK_SIZE);
  }

  static async open(disk: SynchronousDisk): Promise<FatVolume> {
    const failure: { error: unknown } = { error: undefined };
    return new FatVolume(await FatFs.create({ diskio: diskIo(disk, failure) }), failure);
  }

  /** Makes a FAT filesystem over the whole disk, without a partition table. */
  format(): void {
    const options = { fmt: FatFs.FM_ANY | FatFs.FM_SFD, n_fat: 2, align: 0, n_root: 0, au_size: 0 };
    this.#check('f_mkfs', this.#ff.f_mkfs('', options, this.#scratch, WORK_SIZE));
  }

  /** False when there is no FAT filesystem on the disk. */
  mount(): boolean {
    this.#mounted = this.#ff.malloc(FatFs.sizeof_FATFS);
    const result = this.#ff.f_mount(this.#mounted, '', 1);
    if (result === FatFs.FR_NO_FILESYSTEM) return false;
    this.#check('f_mount', result);
    return true;
  }

  mkdir(path: string): void {
    this.#check(`f_mkdir ${path}`, this.#ff.f_mkdir(path));
  }

  writeFile(path: string, bytes: Uint8Array): void {
    this.#withFile(path, FatFs.FA_WRITE | FatFs.FA_CREATE_ALWAYS, (file) => {
      for (let at = 0; at < bytes.length; at += WORK_SIZE / 2) {
        const part = bytes.subarray(at, at + WORK_SIZE / 2);
        this.#ff.HEAPU8.set(part, this.#scratch);
        const done = this.#scratch + WORK_SIZE - 4;
        this.#check(`f_write ${path}`, this.#ff.f_write(file, this.#scratch, part.length, done));
        if (this.#ff.getValue(done, 'i32') !== part.length)
          throw new Error(`f_write ${path}: the filesystem is full`);
      }
    });
  }

  readFile(path: string): Uint8Array {
    return this.#withFile(path, FatFs.FA_READ, (file) => {
      const bytes = new Uint8Array(this.#ff.f_size(file));
      for (let at = 0; at < bytes.length;) {
        const done = this.#scratch + WORK_SIZE - 4;
        const wanted = Math.min(WORK_SIZE / 2, bytes.length - at);
        this.#check(`f_read ${path}`, this.#ff.f_read(file, this.#scratch, wanted, done));
        const size = this.#ff.getValue(done, 'i32');
        if (size === 0) throw new Error(`f_read ${path}: the file ends at ${at} of ${bytes.length} bytes`);
        bytes.set(this.#ff.HEAPU8.subarray(this.#scratch, this.#scratch + size), at);
        at += size;
      }
      return bytes;
    });
  }

  /** Names and sizes in a directory. */
  list(path: string): { name: string; size: number }[] {
    const directory = this.#ff.malloc(FatFs.sizeof_DIR);
    const info = this.#ff.malloc(FatFs.sizeof_FILINFO);
    const found: { name: string; size: number }[] = [];
    try {
      this.#check(`f_opendir ${path}`, this.#ff.f_opendir(directory, path));
      for (;;) {
        this.#check(`f_readdir ${path}`, this.#ff.f_readdir(directory, info));
        const name = this.#ff.FILINFO_fname(info);
        if (name === '') break;
        found.push({ name, size: this.#ff.FILINFO_fsize(info) });
      }
      this.#check(`f_closedir ${path}`, this.#ff.f_closedir(directory));
      return found;
    } finally {
      this.#ff.free(info);
      this.#ff.free(directory);
    }
  }

  [Symbol.dispose](): void {
    if (this.#mounted !== 0) {
      this.#ff.f_unmount('');
      this.#ff.free(this.#mounted);
      this.#mounted = 0;
    }
    this.#ff.free(this.#scratch);
  }

  #withFile<T>(path: string, mode: number, use: (file: number) => T): T {
    const file = this.#ff.malloc(FatFs.sizeof_FIL);
    try {
      this.#check(`f_open ${path}`, this.#ff.f_open(file, path, mode));
      const result = use(file);
      this.#check(`f_close ${path}`, this.#ff.f_close(file));
      return result;
    } finally {
      this.#ff.free(file);
    }
  }

  /** A disk error keeps its own reason: FatFs only says that there was one. */
  #check(what: string, result: number): void {
    if (result === FatFs.FR_OK) return;
    const cause = this.#failure.error;
    throw new Error(`${what}: ${NAMES[result] ?? `FatFs error ${result}`}`, {
      ...(cause !== undefined && { cause }),
    });
  }
}

function diskIo(disk: SynchronousDisk, failure: { error: unknown }): FatFs.DiskIO {
  const attempt = (act: () => void): number => {
    try {
      act();
      return FatFs.RES_OK;
    } catch (error) {
      failure.error = error;
      return FatFs.RES_ERROR;
    }
  };
  return {
    initialize: () => 0,
    status: () => 0,
    read: (ff, _drive, buffer, sector, count) =>
      attempt(() => disk.readSync(sector, ff.HEAPU8.subarray(buffer, buffer + count * SECTOR_SIZE))),
    write: (ff, _drive, buffer, sector, count) =>
      attempt(() => disk.writeSync(sector, ff.HEAPU8.subarray(buffer, buffer + count * SECTOR_SIZE))),
    ioctl: (ff, _drive, command, buffer) => {
      switch (command) {
        case FatFs.CTRL_SYNC:
          return attempt(() => disk.flushSync());
        case FatFs.GET_SECTOR_COUNT:
          ff.setValue(buffer, disk.sectorCount, 'i32');
          return FatFs.RES_OK;
        case FatFs.GET_SECTOR_SIZE:
          ff.setValue(buffer, SECTOR_SIZE, 'i16');
          return FatFs.RES_OK;
        case FatFs.GET_BLOCK_SIZE:
          ff.setValue(buffer, 8, 'i32');
          return FatFs.RES_OK;
        default:
          return FatFs.RES_ERROR;
      }
    },
  };
}
