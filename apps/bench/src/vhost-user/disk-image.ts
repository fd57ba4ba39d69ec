import { createHash, randomFillSync } from 'node:crypto';
import { mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Of `statfs`, in linux/magic.h. */
const TMPFS_MAGIC = 0x0102_1994;
const SHARED_MEMORY = '/dev/shm';

/** A folder in memory, for images: what is measured is who serves them, not where they lie. Gone with it. */
export class ImageFolder implements Disposable {
  readonly path: string;

  /** On the tmpfs of every Linux, or else in `folder`, which is said. */
  constructor(folder: string, onMissing: (peer: string) => void) {
    const isTmpfs = isOnTmpfs(SHARED_MEMORY);
    if (!isTmpfs && !isOnTmpfs(folder)) onMissing('a tmpfs: images lie in a file system of a disk');
    this.path = mkdtempSync(join(isTmpfs ? SHARED_MEMORY : folder, 'virtlab-images-'));
    process.once('exit', this.#remove);
  }

  /** A file of that name with those bytes. */
  file(name: string, contents: Uint8Array): string {
    const path = join(this.path, name);
    writeFileSync(path, contents);
    return path;
  }

  [Symbol.dispose](): void {
    process.off('exit', this.#remove);
    this.#remove();
  }

  readonly #remove = (): void => rmSync(this.path, { recursive: true, force: true });
}

function isOnTmpfs(path: string): boolean {
  try {
    return statfsSync(path).type === TMPFS_MAGIC;
  } catch {
    return false;
  }
}

export function randomContents(size: number): Uint8Array {
  return randomFillSync(new Uint8Array(size));
}

export function checksum(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
