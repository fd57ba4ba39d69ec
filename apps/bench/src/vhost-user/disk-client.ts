import { VIRTIO_ID_BLOCK } from '@virtlab/abi/virtio';
import { createNodeAioContext } from '@virtlab/aio/node';
import {
  type Blkio,
  type BlkioCompletions,
  type BlkioQueue,
  type BlkioRegion,
  createCompletions,
  openBlkio,
} from '@virtlab/blkio';
import { connectVhostUser } from '@virtlab/vhost-user';
import { BLOCK_SIZE, BlockPositions, DISK_SIZE } from '../blk/block-positions.ts';
import { type RunResult, elapsedNs } from '../contender.ts';

export const DEPTH_MAX = 64;
export const TRANSFER_SIZE: number = 128 << 10;
/** Those of a transfer in flight at most. */
export const TRANSFER_DEPTH = 8;
export const BUFFER_SIZE: number = Math.max(DEPTH_MAX * BLOCK_SIZE, TRANSFER_DEPTH * TRANSFER_SIZE);
const MEMORY_SIZE = 4 * BUFFER_SIZE;
/** Without a completion for so long, the disk is lost. */
const SILENCE_MAX_MS = 10_000;

/** What a client does: requests of `size` bytes, `depth` of them in flight, one after the other or all over the disk. */
export interface DiskWork {
  readonly isWrite: boolean;
  readonly isSequential: boolean;
  readonly size: number;
  readonly depth: number;
}

/** A disk behind a Unix socket, driven by polling: this thread looks for completions all the time and takes no calls. */
export class DiskClient implements AsyncDisposable {
  readonly #disk: Blkio;
  readonly #queue: BlkioQueue;
  readonly #region: BlkioRegion;
  readonly #completions: BlkioCompletions = createCompletions(DEPTH_MAX);
  readonly #close: () => Promise<void>;
  readonly #positions = new BlockPositions();
  #following = 0;

  private constructor(disk: Blkio, close: () => Promise<void>) {
    this.#disk = disk;
    this.#queue = disk.queues[0]!;
    this.#region = disk.allocateRegion(BUFFER_SIZE);
    this.#close = close;
  }

  static async connect(path: string): Promise<DiskClient> {
    await using stack = new AsyncDisposableStack();
    const aio = stack.use(createNodeAioContext());
    const link = stack.use(
      await connectVhostUser({ path, aio, deviceType: VIRTIO_ID_BLOCK, memorySize: MEMORY_SIZE }),
    );
    const disk = stack.use(await openBlkio(link, { aio }));
    const held = stack.move();
    return new DiskClient(disk, () => held.disposeAsync());
  }

  /** Does so many requests. Throws when one fails, or none completes any more. */
  run(work: DiskWork, count: number): RunResult {
    const queue = this.#queue;
    const before = queue.statistics;
    const start = performance.now();
    this.#move(work, count);
    const elapsed = elapsedNs(start);
    const after = queue.statistics;
    const doorbells = { kicks: after.kicks - before.kicks, calls: after.calls - before.calls };
    return { operationCount: count, elapsedNs: elapsed, doorbells };
  }

  /** The whole disk, read. */
  contents(): Uint8Array {
    const found = new Uint8Array(DISK_SIZE);
    for (let at = 0; at < DISK_SIZE; at += TRANSFER_SIZE) {
      this.#following = at;
      this.#move({ isWrite: false, isSequential: true, size: TRANSFER_SIZE, depth: 1 }, 1);
      found.set(this.#region.bytes.subarray(0, TRANSFER_SIZE), at);
    }
    return found;
  }

  /** Writes the beginning of the disk, a whole number of transfers. */
  write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += TRANSFER_SIZE) {
      this.#region.bytes.set(bytes.subarray(at, at + TRANSFER_SIZE));
      this.#following = at;
      this.#move({ isWrite: true, isSequential: true, size: TRANSFER_SIZE, depth: 1 }, 1);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }

  #move(work: DiskWork, count: number): void {
    const queue = this.#queue;
    const completions = this.#completions;
    const { tokens, results } = completions;
    let begun = Math.min(work.depth, count);
    for (let token = 0; token < begun; token += 1) this.#submit(work, token);
    for (let ended = 0; ended < count;) {
      const found = queue.pollUntil(completions, 1, SILENCE_MAX_MS);
      if (found === 0) throw new Error(`The disk is silent: ${this.#disk.failure ?? 'no completion'}`);
      for (let index = 0; index < found; index += 1) {
        if (results[index] !== 0) throw new Error(`A request ended with ${results[index]}`);
        if (begun === count) continue;
        begun += 1;
        this.#submit(work, tokens[index]!);
      }
      ended += found;
    }
  }

  #submit({ isWrite, isSequential, size }: DiskWork, token: number): void {
    const queue = this.#queue;
    const position = isSequential ? this.#following : this.#positions.next() * size;
    if (isSequential) this.#following = (position + size) % DISK_SIZE;
    const refused = isWrite
      ? queue.write(position, this.#region, token * size, size, token)
      : queue.read(position, this.#region, token * size, size, token);
    if (refused !== 0)
      throw new Error(`The disk took no request (${refused}): ${this.#disk.failure ?? 'full'}`);
  }
}
