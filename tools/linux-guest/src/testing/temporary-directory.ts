import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A directory that is removed at the end of the block. */
export class TemporaryDirectory implements Disposable {
  readonly path: string = mkdtempSync(join(tmpdir(), 'linux-guest-'));

  file(name: string): string {
    return join(this.path, name);
  }

  /** The path of a new file of `size` bytes, all of them holes. */
  image(name: string, size: number): string {
    const path = this.file(name);
    writeFileSync(path, '');
    truncateSync(path, size);
    return path;
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true });
  }
}
