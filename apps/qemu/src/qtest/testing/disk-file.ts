import { fstatSync, readSync } from 'node:fs';
import { closeFd } from '@virtlab/linux';
import { memoryFile } from '../qemu-process.ts';

/** A raw disk image in anonymous memory, made when first asked for, which QEMU opens by its descriptor and we look into. */
export class DiskFile implements Disposable {
  readonly #initial: Uint8Array;
  #fd: number | undefined;

  constructor(initial: Uint8Array) {
    this.#initial = initial;
  }

  get fd(): number {
    this.#fd ??= memoryFile('qemu-disk', this.#initial);
    return this.#fd;
  }

  /** As they are now. */
  contents(): Uint8Array {
    const bytes = new Uint8Array(fstatSync(this.fd).size);
    for (let at = 0; at < bytes.length;) at += readSync(this.fd, bytes, at, bytes.length - at, at);
    return bytes;
  }

  /** Bytes that take memory: a hole takes none. */
  get allocatedSize(): number {
    return fstatSync(this.fd).blocks * 512;
  }

  [Symbol.dispose](): void {
    if (this.#fd !== undefined) closeFd(this.#fd);
    this.#fd = undefined;
  }
}

/** The `-drive` of a raw image that QEMU finds at its descriptor `fd`. */
export function driveArguments(id: string, fd: number, options = ''): string[] {
  return [
    '-drive',
    `if=none,id=${id},file=/proc/self/fd/${fd},format=raw,file.locking=off,discard=unmap${options}`,
  ];
}
