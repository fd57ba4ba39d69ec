import { VIRTIO_BLK_S_OK } from '@virtlab/abi/virtio-blk';
import type { MemoryRegion } from '@virtlab/guest-memory';
import { BACKEND_PENDING, type BackendCompletion, type BlockBackend } from '../backend.ts';

interface HeldOperation {
  readonly name: string;
  readonly token: number;
  readonly carryOut: () => number;
}

/**
 * Holds every operation until the test ends it, in the order the test likes; the work on guest memory is done only then,
 * as a thread pool may. Operations that were not submitted cannot end.
 */
export class HeldBackend implements BlockBackend {
  readonly capacitySectors: number;
  readonly readOnly: boolean;
  readonly blockSize: number;
  /** `write 0+512`, `flush`, … as they began. */
  readonly begun: string[] = [];
  readonly #inner: BlockBackend;
  readonly #unsubmitted: HeldOperation[] = [];
  readonly #held: HeldOperation[] = [];
  #completion: BackendCompletion | undefined;

  constructor(inner: BlockBackend) {
    this.#inner = inner;
    this.capacitySectors = inner.capacitySectors;
    this.readOnly = inner.readOnly;
    this.blockSize = inner.blockSize;
  }

  get held(): readonly string[] {
    return this.#held.map(({ name }) => name);
  }

  get isListening(): boolean {
    return this.#completion !== undefined;
  }

  /** Ends the operation at `index`: carried out, or failed with `status`. */
  end(index: number = 0, status: number = VIRTIO_BLK_S_OK): void {
    const [operation] = this.#held.splice(index, 1);
    if (operation === undefined) throw new RangeError(`no operation ${index} is held`);
    this.#completion?.(operation.token, status === VIRTIO_BLK_S_OK ? operation.carryOut() : status);
  }

  endAll(): void {
    while (this.#held.length > 0) this.end();
  }

  onComplete(completion: BackendCompletion | undefined): void {
    this.#completion = completion;
  }

  read(region: MemoryRegion, offset: number, size: number, position: number, token: number): number {
    return this.#hold(`read ${position}+${size}`, token, () =>
      this.#inner.read(region, offset, size, position, token),
    );
  }

  write(region: MemoryRegion, offset: number, size: number, position: number, token: number): number {
    return this.#hold(`write ${position}+${size}`, token, () =>
      this.#inner.write(region, offset, size, position, token),
    );
  }

  flush(token: number): number {
    return this.#hold('flush', token, () => this.#inner.flush(token));
  }

  discard(position: number, size: number, token: number): number {
    return this.#hold(`discard ${position}+${size}`, token, () => this.#inner.discard(position, size, token));
  }

  writeZeroes(position: number, size: number, unmap: boolean, token: number): number {
    return this.#hold(`zero ${position}+${size}${unmap ? ' unmap' : ''}`, token, () =>
      this.#inner.writeZeroes(position, size, unmap, token),
    );
  }

  submit(): void {
    this.#held.push(...this.#unsubmitted.splice(0));
  }

  async close(): Promise<void> {
    await this.#inner.close();
  }

  #hold(name: string, token: number, carryOut: () => number): number {
    this.begun.push(name);
    this.#unsubmitted.push({ name, token, carryOut });
    return BACKEND_PENDING;
  }
}
