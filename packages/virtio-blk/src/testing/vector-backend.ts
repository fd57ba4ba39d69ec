import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK } from '@virtlab/abi/virtio-blk';
import type { MemoryRegion } from '@virtlab/guest-memory';
import { BACKEND_PENDING, type BackendCompletion, type BlockBackend } from '../backend.ts';
import type { BlockVector } from '../block-vector.ts';

/** Takes vectors, writes down each operation, fails those that touch `badSector`; ends at once or when `end` is called. */
export class VectorBackend implements BlockBackend {
  readonly capacitySectors: number;
  readonly readOnly = false;
  readonly blockSize = 512;
  /** `read 0+4096 x2`: two pieces. */
  readonly begun: string[] = [];
  readonly held: { readonly token: number; readonly carryOut: () => number }[] = [];
  badSector = -1;
  isHeld = false;
  readonly #inner: BlockBackend;
  #completion: BackendCompletion | undefined;

  constructor(inner: BlockBackend) {
    this.#inner = inner;
    this.capacitySectors = inner.capacitySectors;
  }

  onComplete(completion: BackendCompletion | undefined): void {
    this.#completion = completion;
  }

  endAll(): void {
    for (const { token, carryOut } of this.held.splice(0)) this.#completion?.(token, carryOut());
  }

  read(region: MemoryRegion, offset: number, size: number, position: number, token: number): number {
    return this.#run('read', size, 1, position, token, () =>
      this.#inner.read(region, offset, size, position, token),
    );
  }
  write(region: MemoryRegion, offset: number, size: number, position: number, token: number): number {
    return this.#run('write', size, 1, position, token, () =>
      this.#inner.write(region, offset, size, position, token),
    );
  }
  readVector(vector: BlockVector, position: number, token: number): number {
    return this.#vector('read', vector, position, token);
  }
  writeVector(vector: BlockVector, position: number, token: number): number {
    return this.#vector('write', vector, position, token);
  }

  flush(): number {
    this.begun.push('flush');
    return VIRTIO_BLK_S_OK;
  }
  discard(): number {
    return VIRTIO_BLK_S_OK;
  }
  writeZeroes(position: number, size: number, unmap: boolean, token: number): number {
    this.begun.push(`zero ${position}+${size}`);
    return this.#inner.writeZeroes(position, size, unmap, token);
  }
  submit(): void {}
  async close(): Promise<void> {
    await this.#inner.close();
  }

  /** The vector is the caller's after the call: what is needed of it is copied. */
  #vector(kind: 'read' | 'write', vector: BlockVector, position: number, token: number): number {
    const pieces = Array.from({ length: vector.count }, (_, index) => ({
      region: vector.region[index]!,
      offset: vector.offset[index]!,
      size: vector.size[index]!,
    }));
    return this.#run(kind, vector.totalSize, pieces.length, position, token, () => {
      let at = position;
      for (const { region, offset, size } of pieces) {
        this.#inner[kind](region, offset, size, at, token);
        at += size;
      }
      return VIRTIO_BLK_S_OK;
    });
  }

  #run(
    kind: string,
    size: number,
    pieces: number,
    position: number,
    token: number,
    work: () => number,
  ): number {
    const bad = this.badSector * 512;
    const isBad = bad >= position && bad < position + size;
    this.begun.push(`${kind} ${position}+${size}${pieces > 1 ? ` x${pieces}` : ''}`);
    const carryOut = (): number => (isBad ? VIRTIO_BLK_S_IOERR : work());
    if (!this.isHeld) return carryOut();
    this.held.push({ token, carryOut });
    return BACKEND_PENDING;
  }
}
