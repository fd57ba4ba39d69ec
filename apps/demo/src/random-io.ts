import type { AioContext } from '@virtlab/aio';
import type { BlkDriver } from '@virtlab/virtio-blk';
import { VIRTIO_BLK_S_OK, VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import type { RandomAnswer, RandomRequest } from './messages.ts';

const LATENCY_SAMPLES_MAX = 1 << 20;
/** How often the bar moves. */
const PROGRESS_MS = 100;

/**
 * Random reads and writes on the data plane of the block driver, with `depth` requests always in flight. Every block that was
 * written carries its number and a generation, and every read of it is checked.
 */
export class RandomIo {
  readonly #aio: AioContext;
  readonly #driver: BlkDriver;
  readonly #request: RandomRequest;
  readonly #firstSector: number;
  readonly #blockCount: number;
  readonly #generations: Uint32Array;
  readonly #busy: Uint8Array;
  readonly #slots: { offset: number; block: number; write: boolean; start: number }[] = [];
  readonly #latencies = new Float32Array(LATENCY_SAMPLES_MAX);
  readonly #finished = Promise.withResolvers<void>();
  readonly #onProgress: (fraction: number) => void;
  #random: number;
  #operations = 0;
  #verified = 0;
  #inFlight = 0;
  #start = 0;
  #lastProgress = 0;

  /** `firstSector` and `sectorCount` bound what is touched; `generations` outlives one run, so that later runs verify earlier ones. */
  constructor(
    aio: AioContext,
    driver: BlkDriver,
    request: RandomRequest,
    area: { readonly firstSector: number; readonly sectorCount: number; readonly generations: Uint32Array },
    onProgress: (fraction: number) => void,
  ) {
    this.#aio = aio;
    this.#driver = driver;
    this.#request = request;
    this.#firstSector = area.firstSector;
    this.#blockCount = Math.floor((area.sectorCount * VIRTIO_BLK_SECTOR_SIZE) / request.blockSize);
    this.#generations = area.generations;
    this.#busy = new Uint8Array(this.#blockCount);
    this.#random = request.seed >>> 0 || 1;
    this.#onProgress = onProgress;
  }

  async run(): Promise<RandomAnswer> {
    const { depth, blockSize } = this.#request;
    const before = this.#driver.statistics;
    const base = this.#driver.allocateBuffer(depth * blockSize);
    this.#driver.onCompletion((token, completion) => this.#completed(token, completion));
    this.#start = this.#aio.now();
    for (let token = 0; token < depth; token += 1) {
      this.#slots.push({ offset: base + token * blockSize, block: 0, write: false, start: 0 });
      this.#submit(token);
    }
    this.#driver.kick();
    try {
      await this.#finished.promise;
    } finally {
      this.#driver.onCompletion(undefined);
      if (this.#inFlight === 0) this.#driver.freeBuffer(base);
    }
    return this.#answer(before, this.#driver.statistics);
  }

  #answer(before: BlkDriver['statistics'], after: BlkDriver['statistics']): RandomAnswer {
    const samples = this.#latencies.slice(0, Math.min(this.#operations, LATENCY_SAMPLES_MAX)).toSorted();
    return {
      operations: this.#operations,
      durationMs: this.#aio.now() - this.#start,
      latencyMedian: samples[samples.length >> 1] ?? Number.NaN,
      latencyP99: samples[Math.floor(samples.length * 0.99)] ?? Number.NaN,
      kicks: after.kicks - before.kicks,
      calls: after.calls - before.calls,
      verified: this.#verified,
    };
  }

  #submit(token: number): void {
    const { blockSize, writePercent } = this.#request;
    const slot = this.#slots[token]!;
    do slot.block = this.#next() % this.#blockCount;
    while (this.#busy[slot.block] !== 0);
    slot.write = this.#next() % 100 < writePercent;
    slot.start = this.#aio.now();
    this.#busy[slot.block] = 1;
    const sector = this.#firstSector + (slot.block * blockSize) / VIRTIO_BLK_SECTOR_SIZE;
    if (slot.write) this.#stamp(slot.offset, slot.block);
    const added = slot.write
      ? this.#driver.submitWrite(sector, slot.offset, blockSize, token)
      : this.#driver.submitRead(sector, slot.offset, blockSize, token);
    if (added < 0)
      this.#finished.reject(new Error(`A request of depth ${this.#request.depth} did not fit: ${added}`));
    else this.#inFlight += 1;
  }

  #completed(token: number, completion: number): void {
    const slot = this.#slots[token]!;
    this.#inFlight -= 1;
    this.#busy[slot.block] = 0;
    if (completion !== VIRTIO_BLK_S_OK) {
      this.#finished.reject(
        new Error(`${slot.write ? 'Write' : 'Read'} of block ${slot.block} ended with status ${completion}`),
      );
      return;
    }
    const now = this.#aio.now();
    this.#latencies[this.#operations % LATENCY_SAMPLES_MAX] = (now - slot.start) * 1000;
    this.#operations += 1;
    if (!slot.write && !this.#verify(slot.offset, slot.block)) return;
    const elapsed = now - this.#start;
    if (elapsed < this.#request.durationMs) this.#submit(token);
    else if (this.#inFlight === 0) this.#finished.resolve();
    if (elapsed - this.#lastProgress < PROGRESS_MS) return;
    this.#lastProgress = elapsed;
    this.#onProgress(Math.min(1, elapsed / this.#request.durationMs));
  }

  /** First and last words of a block: its number and generation, so that a torn or misplaced block shows. */
  #stamp(offset: number, block: number): void {
    const generation = this.#generations[block]! + 1;
    this.#generations[block] = generation;
    const { u32 } = this.#driver.memory;
    const last = (offset + this.#request.blockSize) / 4 - 2;
    u32[offset / 4] = block;
    u32[offset / 4 + 1] = generation;
    u32[last] = block;
    u32[last + 1] = generation;
  }

  #verify(offset: number, block: number): boolean {
    const expected = this.#generations[block]!;
    if (expected === 0) return true;
    const { u32 } = this.#driver.memory;
    const last = (offset + this.#request.blockSize) / 4 - 2;
    const found = [u32[offset / 4], u32[offset / 4 + 1], u32[last], u32[last + 1]];
    if (found[0] === block && found[1] === expected && found[2] === block && found[3] === expected) {
      this.#verified += 1;
      return true;
    }
    this.#finished.reject(new Error(`Block ${block} holds ${found.join(', ')}, not generation ${expected}`));
    return false;
  }

  /** xorshift32. */
  #next(): number {
    let x = this.#random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#random = x >>> 0;
    return this.#random;
  }
}
