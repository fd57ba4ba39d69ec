import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Prng } from '@virtlab/aio';
import { IMAGE_SIZE } from '../mortality/numbered-disk.ts';

/** Empty disk images in a folder of their own. */
export class ScratchImages implements Disposable {
  readonly #folder: string = mkdtempSync(join(tmpdir(), 'virtlab-'));

  create(name: string): string {
    const path = join(this.#folder, name);
    writeFileSync(path, '');
    truncateSync(path, IMAGE_SIZE);
    return path;
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true });
  }
}

const TURNS_MAX = 300;

/** A while that ends anywhere in the work of others. */
export async function aMoment(prng: Prng, turnsMax: number = TURNS_MAX): Promise<void> {
  const turns = prng.below(turnsMax);
  for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => void setImmediate(resolve));
}
