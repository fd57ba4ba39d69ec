import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { StorageDaemon, type StorageDaemonOptions } from '@virtlab/vhost-user/testing';
import { afterAll, beforeAll } from 'vitest';

/** A raw image and the place where a daemon that serves it listens. Gone after the suite. */
export class SharedFile {
  readonly directory: string = mkdtempSync(join(tmpdir(), 'virtlab-image-'));
  readonly file: string = join(this.directory, 'disk.raw');
  readonly path: string = join(this.directory, 'blk.sock');

  constructor(contents: Uint8Array) {
    writeFileSync(this.file, contents);
  }

  contents(): Uint8Array {
    return readFileSync(this.file);
  }

  get allocatedSize(): number {
    return statSync(this.file).blocks * 512;
  }

  [Symbol.dispose](): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** One storage daemon for the tests of a suite. */
export class SharedDaemon {
  #image: SharedFile | undefined;
  #daemon: StorageDaemon | undefined;

  /** To be called in a suite. */
  constructor(contents: Uint8Array, options: Omit<StorageDaemonOptions, 'blockdev'> = {}) {
    beforeAll(async () => {
      this.#image = new SharedFile(contents);
      this.#daemon = await StorageDaemon.startOnFile(this.image.file, { path: this.image.path, ...options });
    });
    afterAll(async () => {
      await this.#daemon?.kill();
      this.#image?.[Symbol.dispose]();
    });
  }

  get image(): SharedFile {
    if (this.#image === undefined) throw new TypeError('Only in tests');
    return this.#image;
  }
  get daemon(): StorageDaemon {
    if (this.#daemon === undefined) throw new TypeError('Only in tests');
    return this.#daemon;
  }
}
