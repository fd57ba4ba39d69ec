import { IdentityDeviceMemory, IdentityDmaMapper, memoryRegion } from '@virtlab/guest-memory';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createBufferList } from './buffer-list.ts';
import type { DescriptorChain, DeviceQueue, QueueHandOver, RingFeatures } from './contract.ts';
import type { RingChain } from './device-chain.ts';
import { createDeviceQueue } from './device-queue.ts';
import { createDriverQueue } from './driver-queue.ts';

const SIZE = 8;
const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);
const LIVES_MAX = 6;

/** A driver, and device halves that have the ring one after the other. */
class Succession {
  readonly received: number[] = [];
  readonly #region = memoryRegion(new ArrayBuffer(1 << 16));
  readonly #dma = new IdentityDmaMapper(this.#region);
  readonly #memory = new IdentityDeviceMemory([{ guestAddress: 0n, region: this.#region }]);
  readonly #features: RingFeatures;
  readonly driver;
  readonly #payload: number;
  queue: DeviceQueue;
  #held: DescriptorChain[] = [];
  /** What may be taken back: popped last, and nothing was pushed since. */
  #last: DescriptorChain | undefined;
  sentCount = 0;

  constructor(packed: boolean, indirect: boolean, inOrder: boolean) {
    this.#features = { packed, indirect, eventIdx: false, inOrder };
    this.driver = createDriverQueue({ size: SIZE, dma: this.#dma, features: this.#features });
    this.#payload = this.#dma.allocate(SIZE * 16);
    this.queue = this.#attach();
  }

  /** Each request is one or two buffers, and says who it is. */
  send(isLong: boolean): void {
    const list = createBufferList();
    const slot = this.sentCount % SIZE;
    if (isLong) list.addReadable(this.#payload + slot * 16, 8);
    list.addWritable(this.#payload + slot * 16 + 8, 1 + (this.sentCount % 8));
    if (this.driver.add(list, this.sentCount) === 0) this.sentCount += 1;
    this.driver.publish();
  }

  take(): void {
    const chain = this.queue.pop();
    if (chain === undefined) return;
    this.#held.push(chain);
    this.#last = chain;
  }
  undo(): void {
    if (this.#last === undefined) return;
    this.queue.undoPop(this.#last);
    this.#held.pop();
    this.#last = undefined;
  }
  finish(at: number): void {
    if (this.#held.length === 0) return;
    const [chain] = this.#held.splice(at % this.#held.length, 1);
    this.#last = undefined;
    this.queue.push(chain!, chain!.writableSize);
    this.queue.publish();
  }
  receive(): void {
    for (let token = this.driver.popUsed(); token >= 0; token = this.driver.popUsed())
      this.received.push(token);
  }
  finishAll(): void {
    for (this.take(); this.queue.hasAvailable(); this.take());
    while (this.#held.length > 0) {
      this.finish(0);
      this.receive();
    }
    this.receive();
  }

  /** Another device half goes on. */
  succeed(): QueueHandOver {
    const left = this.queue.handOver();
    this.queue.release();
    this.#held = [];
    this.#last = undefined;
    this.queue = this.#attach(left);
    return left;
  }
  /** As `succeed`, but the last that this half did was to push these, and what it left was written down as if all were taken. */
  kill(...heldAt: readonly number[]): QueueHandOver {
    const start = this.queue.position();
    const takenChains = this.#held.map((chain) => ({
      head: chain.head,
      ...(this.#features.packed === true ? { descriptors: (chain as RingChain).keptDescriptors() } : {}),
    }));
    for (const at of heldAt) this.queue.push(this.#held[at]!, 0);
    this.queue.release();
    this.#held = [];
    this.#last = undefined;
    const left = { start, takenChains };
    this.queue = this.#attach(left);
    return left;
  }
  end(): readonly number[] {
    this.queue.release();
    return [this.#memory.mappedSegmentCount, this.#memory.mappedAreaCount];
  }

  #attach(left?: QueueHandOver): DeviceQueue {
    const { addresses } = this.driver;
    const made = createDeviceQueue({ addresses, memory: this.#memory, features: this.#features, ...left });
    if (!made.ok) throw new Error(made.violation.message);
    return made.queue;
  }
}

const STEP = fc.oneof(
  fc.record({ kind: fc.constant('send' as const), at: fc.nat(1) }),
  fc.record({ kind: fc.constantFrom('take' as const, 'take' as const, 'undo' as const), at: fc.nat(1) }),
  fc.record({ kind: fc.constantFrom('finish' as const, 'receive' as const), at: fc.nat(7) }),
);

function run(succession: Succession, { kind, at }: { readonly kind: string; readonly at: number }): void {
  if (kind === 'send') succession.send(at === 1);
  else if (kind === 'take') succession.take();
  else if (kind === 'undo') succession.undo();
  else if (kind === 'finish') succession.finish(at);
  else succession.receive();
}

describe.each([
  ['split', false, false],
  ['split, INDIRECT', false, true],
  ['packed', true, false],
  ['packed, INDIRECT', true, true],
] as const)('a device half that is taken over: %s', (_, packed, indirect) => {
  it.each([false, true])('IN_ORDER %s: each request is done once, whatever was left', (inOrder) => {
    const lives = fc.array(fc.array(STEP, { maxLength: 24 }), { minLength: 1, maxLength: LIVES_MAX });
    const property = fc.property(lives, (steps) => {
      const succession = new Succession(packed, indirect, inOrder);
      for (const life of steps) {
        for (const step of life) run(succession, step);
        succession.succeed();
      }
      succession.finishAll();
      expect(succession.driver.violation).toBeUndefined();
      expect(succession.queue.violation).toBeUndefined();
      const all = Array.from({ length: succession.sentCount }, (__, token) => token);
      expect(succession.received.toSorted((a, b) => a - b)).toEqual(all);
      expect(succession.end()).toEqual([0, 0]);
    });
    fc.assert(property, { seed: SEED, numRuns: 150 * Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1) });
  });

  it('what a device half that was killed had staged and not published is not there', () => {
    const succession = new Succession(packed, indirect, false);
    for (let count = 0; count < 4; count += 1) succession.send(false);
    for (let count = 0; count < 4; count += 1) succession.take();
    expect(succession.kill(1, 2, 0).takenChains).toHaveLength(4);
    succession.finishAll();
    expect(succession.driver.violation).toBeUndefined();
    expect(succession.received).toEqual([0, 1, 2, 3]);
    expect(succession.end()).toEqual([0, 0]);
  });

  it('what was popped last counts as never popped, as far back as nothing behind it is finished', () => {
    const succession = new Succession(packed, indirect, false);
    for (let count = 0; count < 4; count += 1) succession.send(false);
    for (let count = 0; count < 4; count += 1) succession.take();
    succession.finish(1);
    const left = succession.succeed();
    const from = packed ? 0x8000 : 0;
    expect(left.start).toEqual({ available: from + 2, used: from + 1 });
    expect(left.takenChains).toHaveLength(1);
    // And what nobody took of it is handed on as it came.
    expect(succession.succeed()).toEqual(left);
    succession.finishAll();
    expect(succession.received).toEqual([1, 0, 2, 3]);
    expect(succession.end()).toEqual([0, 0]);
  });
});
