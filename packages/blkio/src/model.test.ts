import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { VIRTIO_F_RING_PACKED, featureBit } from '@virtlab/abi/virtio';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import { createBlkDevice, createMemoryBackend } from '@virtlab/virtio-blk';
import { SimulatedLoops, createMemoryBench } from '@virtlab/virtio/conformance';
import { createCompletions } from './completions.ts';
import { BLKIO_FULL, type Blkio, type BlkioQueue, type BlkioRegion } from './contract.ts';
import { openBlkio } from './open.ts';
import { CAMPAIGN_TIMEOUT_MS, campaign } from './testing/campaign.ts';
import { createVector } from './vector.ts';

const BLOCK = 512;
const BLOCK_COUNT = 32;
const SIZE = BLOCK * BLOCK_COUNT;

type Kind = 'read' | 'write' | 'writev' | 'fua' | 'zeroes' | 'flush' | 'submit' | 'poll' | 'wait' | 'settle';

interface Operation {
  readonly kind: Kind;
  readonly isPromise: boolean;
  readonly block: number;
  readonly count: number;
  readonly value: number;
}

const operations = fc.array(
  fc.record({
    kind: fc.constantFrom<Kind>(
      'read',
      'write',
      'writev',
      'fua',
      'zeroes',
      'flush',
      'submit',
      'poll',
      'wait',
      'settle',
    ),
    isPromise: fc.boolean(),
    block: fc.nat(BLOCK_COUNT - 1),
    count: fc.integer({ min: 1, max: 6 }),
    value: fc.integer({ min: 1, max: 255 }),
  }),
  { maxLength: 60 },
);
const rings = fc
  .tuple(fc.boolean(), fc.boolean(), fc.boolean())
  .map(([packed, indirect, eventIdx]) =>
    [
      packed ? featureBit(VIRTIO_F_RING_PACKED) : 0n,
      indirect ? featureBit(VIRTIO_RING_F_INDIRECT_DESC) : 0n,
      eventIdx ? featureBit(VIRTIO_RING_F_EVENT_IDX) : 0n,
    ].reduce((bits, bit) => bits | bit, 0n),
  );

/**
 * The disk as an array of blocks, each with the values that it may have: requests in flight may be done in any order, so a block
 * with writes in flight may have any of theirs, or what it had.
 */
class Model {
  readonly #possible: Set<number>[] = Array.from({ length: BLOCK_COUNT }, () => new Set([0]));

  begin({ block, count }: Operation, value: number): void {
    for (let at = block; at < block + count; at += 1) this.#possible[at]!.add(value);
  }
  /** Nothing is in flight: whatever is there stays. */
  fix(contents: Uint8Array): void {
    this.#possible.forEach((values, at) => {
      const found = contents.subarray(at * BLOCK, (at + 1) * BLOCK);
      const isWhole = found.every((byte) => byte === found[0]);
      expect(
        isWhole && values.has(found[0]!),
        `block ${at} has ${found[0]}, not of ${[...values].join()}`,
      ).toBe(true);
      values.clear();
      values.add(found[0]!);
    });
  }
}

class Run {
  readonly #disk: Blkio;
  readonly #queue: BlkioQueue;
  readonly #loops: SimulatedLoops;
  readonly #region: BlkioRegion;
  readonly #contents: Uint8Array;
  readonly #model = new Model();
  readonly #done = createCompletions(3);
  readonly #tokens = new Set<number>();
  readonly #promises = new Set<Promise<void>>();
  #nextToken = 0;

  constructor(disk: Blkio, loops: SimulatedLoops, contents: Uint8Array) {
    this.#disk = disk;
    this.#queue = disk.queues[0]!;
    this.#loops = loops;
    this.#contents = contents;
    // A block for each value that may be written, and a place to read into.
    this.#region = disk.allocateRegion(256 * BLOCK + SIZE);
    for (let value = 0; value < 256; value += 1)
      this.#region.bytes.fill(value, value * BLOCK, (value + 1) * BLOCK);
  }

  async play(operation: Operation): Promise<void> {
    const count = Math.min(operation.count, BLOCK_COUNT - operation.block, this.#disk.limits.segmentCountMax);
    const cut = { ...operation, count };
    if (cut.kind === 'submit') this.#queue.submit();
    else if (cut.kind === 'poll') this.#poll();
    else if (cut.kind === 'settle') await this.#loops.settle();
    else if (cut.kind === 'wait') await this.drain();
    else if (cut.isPromise) this.#ask(cut);
    else this.#stage(cut);
  }

  async drain(): Promise<void> {
    this.#queue.submit();
    for (let round = 0; round < 500 && this.#tokens.size + this.#promises.size > 0; round += 1) {
      this.#poll();
      await this.#loops.settle();
    }
    expect([this.#tokens.size, this.#promises.size, this.#queue.inFlightCount]).toEqual([0, 0, 0]);
    this.#model.fix(this.#contents);
  }

  #poll(): void {
    this.#queue.poll(this.#done);
    for (let at = 0; at < this.#done.count; at += 1) {
      expect(this.#done.results[at]).toBe(0);
      expect(this.#tokens.delete(this.#done.tokens[at]!)).toBe(true);
    }
  }

  #stage(operation: Operation): void {
    const token = this.#nextToken;
    const position = operation.block * BLOCK;
    const size = operation.count * BLOCK;
    const queue = this.#queue;
    const results: Partial<Record<Kind, () => number>> = {
      read: () => queue.read(position, this.#region, 256 * BLOCK + position, size, token),
      write: () => queue.writev(position, this.#vector(operation), token),
      writev: () => queue.writev(position, this.#vector(operation), token),
      fua: () => queue.writev(position, this.#vector(operation), token, 1),
      zeroes: () => queue.writeZeroes(position, size, token),
      flush: () => queue.flush(token),
    };
    const result = results[operation.kind]!();
    if (result === BLKIO_FULL) return;
    expect(result).toBe(0);
    this.#nextToken += 1;
    this.#tokens.add(token);
    this.#begun(operation);
  }

  #ask(operation: Operation): void {
    const position = operation.block * BLOCK;
    const size = operation.count * BLOCK;
    const { promises } = this.#queue;
    const asked: Partial<Record<Kind, () => Promise<void>>> = {
      read: () => promises.read(position, this.#region, 256 * BLOCK + position, size),
      write: () => promises.writev(position, this.#vector(operation)),
      writev: () => promises.writev(position, this.#vector(operation)),
      fua: () => promises.writev(position, this.#vector(operation), 1),
      zeroes: () => promises.writeZeroes(position, size),
      flush: () => promises.flush(),
    };
    const promise = asked[operation.kind]!();
    this.#promises.add(promise);
    void promise.finally(() => this.#promises.delete(promise));
    this.#begun(operation);
  }

  #begun(operation: Operation): void {
    if (operation.kind === 'zeroes') this.#model.begin(operation, 0);
    else if (operation.kind !== 'read' && operation.kind !== 'flush')
      this.#model.begin(operation, operation.value);
  }

  #vector({ count, value }: Operation): ReturnType<typeof createVector> {
    const vector = createVector(1);
    for (let at = 0; at < count; at += 1) vector.add(this.#region, value * BLOCK, BLOCK);
    return vector;
  }
}

it(
  'whatever is asked through whichever face, each request ends once and the disk is one that the requests explain',
  async () => {
    const property = fc.asyncProperty(operations, rings, fc.nat(), async (list, ringFeatures, seed) => {
      const contents = new Uint8Array(SIZE);
      const backend = createMemoryBackend({ contents });
      const loops = new SimulatedLoops(seed, 'late');
      const bench = createMemoryBench({
        device: createBlkDevice({ backend, queueSize: 16 }),
        loops,
        doorbells: 'late',
        seed,
      });
      const options = { aio: loops.driverAio, queueSize: 16, ringFeatures, timeoutMs: 100_000 };
      const disk = await loops.run(openBlkio(bench.link, options));
      const run = new Run(disk, loops, contents);
      for (const operation of list) await run.play(operation);
      await run.drain();
      await loops.run(disk.close());
      expect(await loops.run(bench.close())).toEqual([]);
    });
    await fc.assert(property, campaign(60));
  },
  CAMPAIGN_TIMEOUT_MS,
);
