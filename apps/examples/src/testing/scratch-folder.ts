import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A folder that goes with its scope. */
export class ScratchFolder implements Disposable {
  readonly path: string = mkdtempSync(join(tmpdir(), 'virtlab-examples-'));

  file(name: string): string {
    return join(this.path, name);
  }

  /** An empty image. */
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
