import { SegmentList } from '@virtlab/guest-memory';
import { CountingDeviceMemory, HostileDmaMapper } from '@virtlab/guest-memory/testing';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createBufferList } from './buffer-list.ts';
import type { DescriptorChain, DeviceQueue, DriverQueue } from './contract.ts';
import { createDeviceQueue } from './device-queue.ts';
import { createDriverQueue } from './driver-queue.ts';
import { campaign, campaignTimeoutMs } from './testing/campaign.ts';

/** One step of either party; what it does depends on the state, so that every sequence is meaningful. */
interface Step {
  readonly op:
    | 'add'
    | 'kick'
    | 'publish avail'
    | 'pop'
    | 'undo'
    | 'push'
    | 'publish used'
    | 'call'
    | 'pop used'
    | 'bells';
  readonly pick: number;
  readonly sizes: readonly number[];
}

interface Setup {
  readonly sizeLog2: number;
  /** Taken from the size of a packed ring, which need not be a power of two. */
  readonly sizeLess: number;
  readonly packed: boolean;
  readonly inOrder: boolean;
  readonly indirect: boolean;
  readonly eventIdx: boolean;
  readonly suppresses: boolean;
  readonly bufferCountMax: number;
  readonly shareMax: number;
}

interface Request {
  readonly offset: number;
  readonly readable: readonly number[];
  readonly writable: readonly number[];
}

const SLOT_SIZE = 256;

/**
 * The driver half against the device half, with a model: each token comes back exactly once, with the bytes that the
 * device made of the request's own bytes. A party that found nothing sleeps until its doorbell; only then is it woken.
 */
class Machine {
  readonly dma: HostileDmaMapper;
  readonly memory: CountingDeviceMemory;
  readonly driver: DriverQueue;
  readonly device: DeviceQueue;
  readonly #setup: Setup;
  readonly #requests = new Map<number, Request>();
  readonly #slots: number[] = [];
  readonly #payload: number;
  readonly #list = createBufferList(1);
  #held: DescriptorChain[] = [];
  #kickBell = false;
  #callBell = false;
  #deviceAwake = true;
  #driverAwake = true;
  #nextToken = 0;
  completed = 0;

  constructor(setup: Setup) {
    this.#setup = setup;
    const { packed, inOrder, indirect, eventIdx, bufferCountMax, shareMax } = setup;
    const size = packed ? Math.max(1, (1 << setup.sizeLog2) - setup.sizeLess) : 1 << setup.sizeLog2;
    const features = { packed, inOrder, indirect, eventIdx };
    this.dma = new HostileDmaMapper({ memorySize: 1 << 21, shareMax });
    this.driver = createDriverQueue({ size, dma: this.dma, features, bufferCountMax });
    this.memory = new CountingDeviceMemory(this.dma.deviceMemory);
    const made = createDeviceQueue({ addresses: this.driver.addresses, memory: this.memory, features });
    if (!made.ok) throw new Error(made.violation.message);
    this.device = made.queue;
    this.#payload = this.dma.allocate(size * SLOT_SIZE);
    for (let i = 0; i < size; i++) this.#slots.push(this.#payload + i * SLOT_SIZE);
  }

  step({ op, pick, sizes }: Step): void {
    switch (op) {
      case 'add':
        this.#add(sizes, pick);
        break;
      case 'publish avail':
        this.driver.publish();
        break;
      case 'kick':
        if (this.driver.needsKick()) this.#kickBell = true;
        break;
      case 'pop':
        this.#pop(1 + (pick % 4));
        break;
      case 'undo':
        this.#undo();
        break;
      case 'push':
        this.#push(pick);
        break;
      case 'publish used':
        this.device.publish();
        break;
      case 'call':
        if (this.device.needsCall()) this.#callBell = true;
        break;
      case 'pop used':
        this.#popUsed(1 + (pick % 4));
        break;
      case 'bells':
        this.#ringBells();
        break;
    }
    const broken = this.device.violation ?? this.driver.violation;
    if (broken !== undefined) throw new Error(`${broken.section} ${broken.message}`);
  }

  /** Everybody does what is left to do, sleeping as before, until nothing moves. */
  finish(): void {
    for (let before = -1; before !== this.completed || this.#held.length > 0;) {
      before = this.completed;
      if (this.driver.needsKick()) this.#kickBell = true;
      this.#ringBells();
      this.#pop(1000);
      while (this.#held.length > 0) this.#push(0);
      if (this.device.needsCall()) this.#callBell = true;
      this.#ringBells();
      this.#popUsed(1000);
    }
  }

  get counts(): object {
    const { freeCount, inFlightCount } = this.driver;
    return {
      lost: [...this.#requests.keys()],
      freeCount,
      inFlightCount,
      inDevice: this.device.inFlightCount,
    };
  }

  /** Gives everything back, whatever the state; throws on a leak. */
  close(): boolean {
    this.device.release();
    this.memory.assertNothingMapped();
    const released = this.driver.release();
    this.dma.free(this.#payload, this.driver.size * SLOT_SIZE);
    this.dma.assertNothingLent();
    return released;
  }

  #add(sizes: readonly number[], pick: number): void {
    const offset = this.#slots.at(-1);
    if (offset === undefined || sizes.length > this.driver.size) return;
    const readableCount = pick % (sizes.length + 1);
    this.#list.clear();
    const bytes = this.dma.memory.u8;
    let at = offset;
    for (const [i, size] of sizes.entries()) {
      if (i < readableCount) {
        for (let j = 0; j < size; j++) bytes[at + j] = pick + at + j;
        this.#list.addReadable(at, size);
      } else this.#list.addWritable(at, size);
      at += size;
    }
    if (this.driver.add(this.#list, this.#nextToken) < 0) return;
    this.#slots.pop();
    const request = { offset, readable: sizes.slice(0, readableCount), writable: sizes.slice(readableCount) };
    this.#requests.set(this.#nextToken++, request);
  }

  #pop(count: number): void {
    for (let i = 0; i < count && this.#deviceAwake; i++) {
      const chain = this.device.pop();
      if (chain !== undefined) this.#held.push(chain);
      else if (!this.#setup.suppresses || !this.device.enableKicks()) this.#deviceAwake = false;
      else this.device.disableKicks();
    }
  }

  /** The latest chain goes back. A device that then waits for more must ask, as `undoPop` says. */
  #undo(): void {
    const chain = this.#held.at(-1);
    if (chain === undefined || !this.#deviceAwake) return;
    try {
      this.device.undoPop(chain);
    } catch (error) {
      expect(error).toBeInstanceOf(RangeError);
      return;
    }
    this.#held.pop();
  }

  #push(pick: number): void {
    const at = this.#held.length === 0 ? -1 : pick % this.#held.length;
    const [chain] = at < 0 ? [] : this.#held.splice(at, 1);
    if (chain === undefined) return;
    const sum = sumOf(chain);
    const bytes = Uint8Array.from({ length: chain.writableSize }, (_, i) => sum + i);
    if (!chain.write(0, bytes)) throw new Error(`Chain ${chain.head} does not take ${bytes.length} bytes`);
    this.device.push(chain, writtenSizeOf(chain.readableSize, chain.writableSize));
  }

  #popUsed(count: number): void {
    for (let i = 0; i < count; i++) {
      if (!this.#driverAwake) return;
      const token = this.driver.popUsed();
      if (token >= 0) this.#complete(token);
      else if (!this.#setup.suppresses || !this.driver.enableCalls()) this.#driverAwake = false;
      else this.driver.disableCalls();
    }
  }

  #complete(token: number): void {
    const request = this.#requests.get(token);
    if (request === undefined) throw new Error(`Token ${token} came back, but was not in flight`);
    if (this.#setup.inOrder) expect(token).toBe(this.#requests.keys().next().value);
    this.#requests.delete(token);
    const total = (sizes: readonly number[]): number => sizes.reduce((sum, size) => sum + size, 0);
    const { u8 } = this.dma.memory;
    const middle = request.offset + total(request.readable);
    let sum = 0;
    for (let at = request.offset; at < middle; at++) sum += u8[at]!;
    const written = writtenSizeOf(total(request.readable), total(request.writable));
    expect(this.driver.usedSize).toBe(written);
    const made = u8.subarray(middle, middle + written);
    if (made.some((byte, i) => byte !== ((sum + i) & 0xff))) throw new Error(`Token ${token} has wrong data`);
    this.#slots.push(request.offset);
    this.completed++;
  }

  #ringBells(): void {
    if (this.#kickBell) {
      this.#kickBell = false;
      this.#deviceAwake = true;
      if (this.#setup.suppresses) this.device.disableKicks();
    }
    if (this.#callBell) {
      this.#callBell = false;
      this.#driverAwake = true;
      if (this.#setup.suppresses) this.driver.disableCalls();
    }
  }
}

/** What the device here says that it wrote: all of it for every other size, which matters to batches in order. */
function writtenSizeOf(readableSize: number, writableSize: number): number {
  return readableSize % 2 === 0 ? writableSize : Math.min(readableSize, writableSize);
}

function sumOf(chain: DescriptorChain): number {
  let sum = 0;
  for (let i = 0; i < chain.readableSize; i++) sum += chain.readU8(i);
  return sum;
}

const arbitrarySetup: fc.Arbitrary<Setup> = fc.record({
  sizeLog2: fc.integer({ min: 0, max: 8 }),
  sizeLess: fc.nat(100),
  packed: fc.boolean(),
  inOrder: fc.boolean(),
  indirect: fc.boolean(),
  eventIdx: fc.boolean(),
  suppresses: fc.boolean(),
  bufferCountMax: fc.integer({ min: 1, max: 6 }),
  shareMax: fc.oneof(fc.constant(10_000), fc.integer({ min: 6, max: 20 })),
});

const arbitraryStep: fc.Arbitrary<Step> = fc.record({
  op: fc.oneof(
    { weight: 4, arbitrary: fc.constant('add' as const) },
    { weight: 2, arbitrary: fc.constantFrom('pop' as const, 'push' as const, 'pop used' as const) },
    {
      weight: 3,
      arbitrary: fc.constantFrom(
        'kick' as const,
        'publish avail' as const,
        'undo' as const,
        'publish used' as const,
        'call' as const,
        'bells' as const,
      ),
    },
  ),
  pick: fc.nat(255),
  sizes: fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 6 }),
});

describe('driver half against device half', { timeout: campaignTimeoutMs() }, () => {
  it('every request comes back once, with its data, and no wake-up is lost, whatever the order of steps', () => {
    fc.assert(
      fc.property(
        arbitrarySetup,
        fc.array(arbitraryStep, { maxLength: 150, size: 'max' }),
        (setup, steps) => {
          const machine = new Machine(setup);
          for (const step of steps) machine.step(step);
          machine.finish();
          expect(machine.counts).toEqual({
            lost: [],
            freeCount: machine.driver.size,
            inFlightCount: 0,
            inDevice: 0,
          });
          expect(machine.close()).toBe(true);
        },
      ),
      campaign(500),
    );
  });

  it('whenever both sides stop, nothing stays shared or mapped', () => {
    fc.assert(
      fc.property(arbitrarySetup, fc.array(arbitraryStep, { maxLength: 60, size: 'max' }), (setup, steps) => {
        const machine = new Machine(setup);
        for (const step of steps) machine.step(step);
        expect(machine.close()).toBe(true);
      }),
      campaign(150),
    );
  });

  it('the mapper used here does refuse what the driver did not share', () => {
    const dma = new HostileDmaMapper();
    expect(dma.deviceMemory.map(4096, 0, 8, false, new SegmentList())).not.toBe(0);
  });
});
