import { IdentityDeviceMemory, IdentityDmaMapper, memoryRegion } from '@virtlab/guest-memory';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createBufferList } from './buffer-list.ts';
import { ADD_FULL, type DescriptorChain, type DeviceQueue, type DriverQueue } from './contract.ts';
import { createDeviceQueue } from './device-queue.ts';
import { createDriverQueue } from './driver-queue.ts';
import { campaign, campaignTimeoutMs } from './testing/campaign.ts';

/** One call of one half, or a thing that answers the same calls. */
type Step =
  | { readonly op: 'add'; readonly readableCount: number; readonly writableCount: number }
  | { readonly op: 'push'; readonly pick: number; readonly isFull: boolean }
  | { readonly op: 'publish avail' | 'pop' | 'undo' | 'publish used' | 'pop used' | 'look' };

const BUFFER_SIZE = 16;

interface Subject {
  apply(step: Step): unknown;
}

interface Shape {
  readonly size: number;
  readonly indirect: boolean;
  readonly inOrder: boolean;
}

interface Request {
  readonly token: number;
  readonly writableSize: number;
  readonly readableSize: number;
  readonly cost: number;
  written: number;
  isDone: boolean;
}

/** What a queue is, with arrays in place of rings. */
class ModelQueue implements Subject {
  readonly #shape: Shape;
  #free: number;
  #staged: Request[] = [];
  #available: Request[] = [];
  #held: Request[] = [];
  /** In the order of pop. */
  #popped: Request[] = [];
  #stagedUsed: Request[] = [];
  #used: Request[] = [];
  #nextToken = 0;

  constructor(shape: Shape) {
    this.#shape = shape;
    this.#free = shape.size;
  }

  apply(step: Step): unknown {
    switch (step.op) {
      case 'add':
        return this.#add(step.readableCount, step.writableCount);
      case 'publish avail':
        this.#available.push(...this.#staged.splice(0));
        return undefined;
      case 'pop': {
        const request = this.#available.shift();
        if (request === undefined) return undefined;
        this.#held.push(request);
        this.#popped.push(request);
        return [request.readableSize, request.writableSize];
      }
      case 'undo':
        return this.#undo();
      case 'push':
        return this.#push(step.pick, step.isFull);
      case 'publish used':
        this.#used.push(...this.#stagedUsed.splice(0));
        return undefined;
      case 'look':
        return [this.#available.length > 0, this.#used.length > 0, this.#free, this.#held.length];
      case 'pop used': {
        const request = this.#used.shift();
        if (request === undefined) return undefined;
        this.#free += request.cost;
        return [request.token, request.written];
      }
    }
  }

  #add(readableCount: number, writableCount: number): unknown {
    const count = readableCount + writableCount;
    const { size, indirect } = this.#shape;
    if (count === 0 || count > size) return 'misuse';
    const cost = indirect && count > 1 && count <= BUFFER_COUNT_MAX ? 1 : count;
    if (cost > this.#free) return ADD_FULL;
    this.#free -= cost;
    this.#staged.push({
      token: this.#nextToken++,
      readableSize: readableCount * BUFFER_SIZE,
      writableSize: writableCount * BUFFER_SIZE,
      cost,
      written: 0,
      isDone: false,
    });
    return 0;
  }

  /** The latest chain goes back if the device still has it. */
  #undo(): unknown {
    const request = this.#held.at(-1);
    if (request === undefined || request !== this.#popped.at(-1)) return 'not the latest';
    this.#held.pop();
    this.#popped.pop();
    this.#available.unshift(request);
    return undefined;
  }

  #push(pick: number, isFull: boolean): unknown {
    if (this.#held.length === 0) return undefined;
    const [request] = this.#held.splice(pick % this.#held.length, 1);
    request!.written = isFull ? request!.writableSize : pick % (request!.writableSize + 1);
    request!.isDone = true;
    if (!this.#shape.inOrder) this.#stagedUsed.push(request!);
    else while (this.#popped[0]?.isDone === true) this.#stagedUsed.push(this.#popped.shift()!);
    return undefined;
  }
}

const BUFFER_COUNT_MAX = 3;

class RealQueue implements Subject {
  readonly driver: DriverQueue;
  readonly device: DeviceQueue;
  readonly #dma: IdentityDmaMapper;
  readonly #memory: IdentityDeviceMemory;
  readonly #held: DescriptorChain[] = [];
  readonly #list = createBufferList();
  readonly #payload: number;
  #nextToken = 0;

  constructor({ size, indirect, inOrder }: Shape, packed: boolean, eventIdx: boolean) {
    const region = memoryRegion(new ArrayBuffer(1 << 18));
    this.#dma = new IdentityDmaMapper(region);
    this.#memory = new IdentityDeviceMemory([{ guestAddress: 0n, region }]);
    const features = { packed, indirect, eventIdx, inOrder };
    this.driver = createDriverQueue({ size, dma: this.#dma, features, bufferCountMax: BUFFER_COUNT_MAX });
    const made = createDeviceQueue({ addresses: this.driver.addresses, memory: this.#memory, features });
    if (!made.ok) throw new Error(made.violation.message);
    this.device = made.queue;
    this.#payload = this.#dma.allocate(BUFFER_SIZE);
  }

  apply(step: Step): unknown {
    const { driver, device } = this;
    const answer = this.#apply(step);
    const broken = driver.violation ?? device.violation;
    if (broken !== undefined) throw new Error(`${broken.section} ${broken.message}`);
    return answer;
  }

  close(): void {
    this.device.release();
    expect(this.driver.release()).toBe(true);
    expect(this.#memory.mappedSegmentCount).toBe(0);
    expect(this.#memory.mappedAreaCount).toBe(0);
    expect(this.#dma.lentCount).toBe(0);
  }

  #apply(step: Step): unknown {
    const { driver, device } = this;
    switch (step.op) {
      case 'add':
        return this.#add(step.readableCount, step.writableCount);
      case 'publish avail':
        return driver.publish();
      case 'pop': {
        const chain = device.pop();
        if (chain === undefined) return undefined;
        this.#held.push(chain);
        return [chain.readableSize, chain.writableSize];
      }
      case 'undo':
        return this.#undo();
      case 'push': {
        if (this.#held.length === 0) return undefined;
        const [chain] = this.#held.splice(step.pick % this.#held.length, 1);
        const { writableSize } = chain!;
        return device.push(chain!, step.isFull ? writableSize : step.pick % (writableSize + 1));
      }
      case 'publish used':
        return device.publish();
      case 'look':
        return [device.hasAvailable(), driver.hasUsed(), driver.freeCount, device.inFlightCount];
      case 'pop used': {
        const token = driver.popUsed();
        return token < 0 ? undefined : [token, driver.usedSize];
      }
    }
  }

  #add(readableCount: number, writableCount: number): unknown {
    this.#list.clear();
    for (let i = 0; i < readableCount; i++) this.#list.addReadable(this.#payload, BUFFER_SIZE);
    for (let i = 0; i < writableCount; i++) this.#list.addWritable(this.#payload, BUFFER_SIZE);
    try {
      const status = this.driver.add(this.#list, this.#nextToken);
      if (status === 0) this.#nextToken++;
      return status;
    } catch (error) {
      expect(error).toBeInstanceOf(RangeError);
      return 'misuse';
    }
  }

  #undo(): unknown {
    const chain = this.#held.at(-1);
    if (chain === undefined) return 'not the latest';
    try {
      this.device.undoPop(chain);
    } catch (error) {
      expect(error).toBeInstanceOf(RangeError);
      return 'not the latest';
    }
    this.#held.pop();
    return undefined;
  }
}

const count = fc.nat(3);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ op: fc.constant('add' as const), readableCount: count, writableCount: count }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ op: fc.constant('push' as const), pick: fc.nat(1000), isFull: fc.boolean() }),
  },
  {
    weight: 10,
    arbitrary: fc.record({
      op: fc.constantFrom(
        'publish avail' as const,
        'pop' as const,
        'pop' as const,
        'undo' as const,
        'publish used' as const,
        'pop used' as const,
        'pop used' as const,
        'look' as const,
      ),
    }),
  },
);

describe(
  'split and packed rings do what a queue of plain arrays does',
  { timeout: campaignTimeoutMs() },
  () => {
    for (const inOrder of [false, true]) {
      it(`call by call, ${inOrder ? 'in order' : 'in any order'}`, () => {
        fc.assert(
          fc.property(
            fc.record({ sizeLog2: fc.nat(5), indirect: fc.boolean(), eventIdx: fc.boolean() }),
            fc.array(step, { maxLength: 120, size: 'max' }),
            ({ sizeLog2, indirect, eventIdx }, steps) => {
              const shape = { size: 1 << sizeLog2, indirect, inOrder };
              const model = new ModelQueue(shape);
              const split = new RealQueue(shape, false, eventIdx);
              const packed = new RealQueue(shape, true, eventIdx);
              for (const [at, each] of steps.entries()) {
                const expected = [at, each.op, model.apply(each)];
                expect([at, each.op, split.apply(each)]).toEqual(expected);
                expect([at, each.op, packed.apply(each)]).toEqual(expected);
              }
              split.close();
              packed.close();
            },
          ),
          campaign(150),
        );
      });
    }

    it('packed rings of any size too', () => {
      fc.assert(
        fc.property(
          fc.record({ size: fc.integer({ min: 1, max: 40 }), indirect: fc.boolean(), inOrder: fc.boolean() }),
          fc.array(step, { maxLength: 200, size: 'max' }),
          (shape, steps) => {
            const model = new ModelQueue(shape);
            const packed = new RealQueue(shape, true, false);
            for (const [at, each] of steps.entries()) {
              const expected = [at, each.op, model.apply(each)];
              expect([at, each.op, packed.apply(each)]).toEqual(expected);
            }
            packed.close();
          },
        ),
        campaign(150),
      );
    });
  },
);
