import { VIRTIO_BLK_S_OK } from '@virtlab/abi/virtio-blk';
import type { AioContext, Prng, Timer } from '@virtlab/aio';
import type { MemoryRegion } from '@virtlab/guest-memory';
import { BACKEND_PENDING, type BackendCompletion, type BlockBackend } from '@virtlab/virtio-blk';

/** What a disk with a bug of its own does; a run with one must fail. */
export type DiskBug = 'a flush that lies' | 'a write that completes early';

const SECTOR_SIZE = 512;
/** Longest time of an operation, in virtual milliseconds. */
const LATENCY_MAX_MS = 2;

/** The platters, and the cache of whoever served them last: what outlives the domain that serves the disk. */
export class Platters {
  readonly bytes: Uint8Array;
  /** Sectors that were written and not flushed. */
  readonly cache: Map<number, Uint8Array> = new Map();

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
  }

  /** Everything that was written before now is durable. */
  commit(sectors: ReadonlyMap<number, Uint8Array>): void {
    for (const [sector, bytes] of sectors) {
      this.bytes.set(bytes, sector * SECTOR_SIZE);
      if (this.cache.get(sector) === bytes) this.cache.delete(sector);
    }
  }

  /** The power went: of the sectors in the cache, any may have been written and any not. */
  loseCache(prng: Prng): void {
    for (const [sector, bytes] of this.cache)
      if (prng.below(2) === 0) this.bytes.set(bytes, sector * SECTOR_SIZE);
    this.cache.clear();
  }
}

/** A disk on the loop's clock: every operation takes its time, they overtake each other, and only a flush is durable. */
export class VolatileDisk implements BlockBackend {
  readonly capacitySectors: number;
  readonly readOnly: boolean = false;
  readonly blockSize: number = SECTOR_SIZE;
  readonly #platters: Platters;
  readonly #aio: AioContext;
  readonly #prng: Prng;
  readonly #bug: DiskBug | undefined;
  readonly #timers = new Set<Timer>();
  #onComplete: BackendCompletion | undefined;

  constructor(platters: Platters, aio: AioContext, prng: Prng, bug: DiskBug | undefined) {
    this.capacitySectors = platters.bytes.length / SECTOR_SIZE;
    this.#platters = platters;
    this.#aio = aio;
    this.#prng = prng;
    this.#bug = bug;
  }

  onComplete(completion: BackendCompletion | undefined): void {
    this.#onComplete = completion;
  }

  read(region: MemoryRegion, offset: number, size: number, position: number, token: number): number {
    return this.#later(token, () => {
      for (let at = 0; at < size; at += SECTOR_SIZE) {
        const sector = (position + at) / SECTOR_SIZE;
        const bytes =
          this.#platters.cache.get(sector) ??
          this.#platters.bytes.subarray(position + at, position + at + SECTOR_SIZE);
        region.u8.set(bytes, offset + at);
      }
    });
  }

  /** Guest memory is read when the write is done, at the latest moment that the contract allows. */
  write(region: MemoryRegion, offset: number, size: number, position: number, token: number): number {
    const store = (): void => {
      for (let at = 0; at < size; at += SECTOR_SIZE) {
        this.#platters.cache.set(
          (position + at) / SECTOR_SIZE,
          region.u8.slice(offset + at, offset + at + SECTOR_SIZE),
        );
      }
    };
    if (this.#bug !== 'a write that completes early') return this.#later(token, store);
    this.#run(LATENCY_MAX_MS * 4, store);
    return this.#later(token, () => undefined);
  }

  flush(token: number): number {
    const written = new Map(this.#platters.cache);
    return this.#later(token, () => {
      if (this.#bug !== 'a flush that lies') this.#platters.commit(written);
    });
  }

  discard(): number {
    return VIRTIO_BLK_S_OK;
  }

  writeZeroes(position: number, size: number, _unmap: boolean, token: number): number {
    return this.#later(token, () => {
      for (let at = 0; at < size; at += SECTOR_SIZE) {
        this.#platters.cache.set((position + at) / SECTOR_SIZE, new Uint8Array(SECTOR_SIZE));
      }
    });
  }

  submit(): void {}

  async close(): Promise<void> {
    this.stop();
  }

  /** Nothing that is pending happens any more. */
  stop(): void {
    for (const timer of this.#timers) timer[Symbol.dispose]();
    this.#timers.clear();
  }

  #later(token: number, work: () => void): number {
    this.#run(LATENCY_MAX_MS * this.#prng.fraction(), () => {
      work();
      this.#onComplete?.(token, VIRTIO_BLK_S_OK);
    });
    return BACKEND_PENDING;
  }

  #run(delayMs: number, work: () => void): void {
    const timer = this.#aio.createTimer(() => {
      this.#timers.delete(timer);
      timer[Symbol.dispose]();
      work();
    });
    this.#timers.add(timer);
    timer.arm(delayMs);
  }
}
