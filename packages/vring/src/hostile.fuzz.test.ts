import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createBufferList } from './buffer-list.ts';
import type { DescriptorChain } from './contract.ts';
import { createDeviceRig, createDriverRig, type DeviceRig, type DriverRig, type RawRing } from './testing.ts';

/** Values that sit on an edge of something, or are anything. */
const word16 = fc.oneof(
  fc.constantFrom(0, 1, 2, 3, 7, 8, 15, 16, 0x7fff, 0x8000, 0xfffe, 0xffff),
  fc.integer({ min: 0, max: 0xffff }),
);
const word32 = fc.oneof(
  word16,
  fc.constantFrom(0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_ffff),
  fc.integer({ min: 0, max: 0xffff_ffff }),
);
/** Mostly flags that mean something together. */
const flags = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0, max: 7 }) },
  { weight: 1, arbitrary: word16 },
);

interface Blow {
  readonly target: 'descriptor' | 'table' | 'head' | 'idx' | 'bump' | 'event' | 'used' | 'bytes';
  readonly at: number;
  readonly a: number;
  readonly b: number;
  readonly flags: number;
  readonly next: number;
}

const blow: fc.Arbitrary<Blow> = fc.record({
  target: fc.constantFrom(
    'descriptor',
    'descriptor',
    'table',
    'head',
    'idx',
    'bump',
    'bump',
    'event',
    'used',
    'bytes',
  ),
  at: fc.nat(63),
  a: word32,
  b: fc.oneof(fc.nat(64), word32),
  flags,
  next: fc.oneof(fc.nat(8), word16),
});

const TABLES = 4;

/** Strikes at one place of the ring. Descriptors point near the payload more often than not; tables lie at its start. */
function strike(ring: RawRing, payload: bigint, { target, at, a, b, flags: bits, next }: Blow): void {
  const near = a % 3 === 0 ? BigInt(a) << 8n : payload + BigInt(a % 0x2_0100);
  const table = payload + BigInt((at % TABLES) * 0x88);
  const isTable = (bits & 4) !== 0 && a % 4 !== 0;
  switch (target) {
    case 'descriptor': {
      const address = isTable ? table : near;
      ring.setDescriptor(at % ring.size, {
        address,
        size: isTable ? (1 + (b % 8)) * 16 : b,
        flags: bits,
        next,
      });
      break;
    }
    case 'table':
      ring.writeDescriptor(table + BigInt((at & 7) * 16), { address: near, size: b, flags: bits, next });
      break;
    case 'head':
      ring.setAvailableEntry(at, a % 5 === 0 ? a & 0xffff : a % ring.size);
      break;
    case 'idx':
      if (bits === 0) ring.availIdx = a & 0xffff;
      else ring.availIdx = (ring.availIdx + (a % (ring.size + 2))) & 0xffff;
      break;
    case 'bump':
      ring.availIdx = (ring.availIdx + 1) & 0xffff;
      break;
    case 'event':
      ring.usedEvent = a & 0xffff;
      ring.availFlags = bits;
      break;
    case 'used':
      ring.setUsedEntry(at, { id: a % 2 === 0 ? a : a % ring.size, size: b });
      ring.usedIdx = bits < 6 ? (ring.usedIdx + 1) & 0xffff : next;
      break;
    case 'bytes':
      ring.availEvent = a & 0xffff;
      ring.usedFlags = bits;
  }
}

type DeviceMove = 'pop' | 'push' | 'undo' | 'call' | 'off' | 'on' | 'look' | 'touch' | 'snapshot';
const deviceMove: fc.Arbitrary<DeviceMove> = fc.constantFrom(
  ...(['pop', 'pop', 'pop', 'push', 'undo', 'call', 'off', 'on', 'look', 'touch', 'snapshot'] as const),
);

function moveDevice({ queue, region }: DeviceRig, held: DescriptorChain[], move: DeviceMove): void {
  switch (move) {
    case 'pop':
      // Ends by itself: a head in flight twice is a violation, so a queue gives at most its size.
      for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) held.push(chain);
      break;
    case 'push': {
      const chain = held.shift();
      if (chain !== undefined) queue.push(chain, chain.writableSize);
      break;
    }
    case 'undo': {
      const chain = held.pop();
      if (chain !== undefined) queue.undoPop(chain);
      break;
    }
    case 'touch':
      for (const chain of held) touch(chain, region.size);
      break;
    case 'call':
      queue.needsCall();
      break;
    case 'off':
      queue.disableKicks();
      break;
    case 'on':
      queue.enableKicks();
      break;
    case 'look':
      queue.hasAvailable();
      break;
    case 'snapshot':
      queue.snapshot();
  }
}

/** All that a device may do with a chain stays inside memory and inside the chain. */
function touch(chain: DescriptorChain, memorySize: number): void {
  const { segments, readableCount, readableSize, writableSize } = chain;
  let sum = 0;
  for (let i = 0; i < segments.count; i++) {
    if (segments.offset[i]! + segments.size[i]! > memorySize) throw new Error(`Segment ${i} leaves memory`);
    sum += segments.size[i]!;
  }
  expect(sum).toBe(readableSize + writableSize);
  expect(readableCount).toBeLessThanOrEqual(segments.count);
  expect(chain.read(0, new Uint8Array(Math.min(readableSize, 5000)))).toBe(true);
  expect(chain.write(0, new Uint8Array(Math.min(writableSize, 100)).fill(0xff))).toBe(true);
  expect(Number.isNaN(chain.readU32(readableSize - 3))).toBe(true);
  expect(chain.writeU16(writableSize - 1, 1)).toBe(false);
}

describe('hostile driver against the device half', () => {
  const step = fc.oneof({ weight: 3, arbitrary: blow }, { weight: 2, arbitrary: deviceMove });

  it('never throws, never hangs, never reaches outside memory, and leaves nothing mapped', () => {
    let broken = 0;
    let popped = 0;
    fc.assert(
      fc.property(
        fc.record({
          sizeLog2: fc.nat(4),
          indirect: fc.boolean(),
          eventIdx: fc.boolean(),
          split: fc.boolean(),
        }),
        fc.array(step, { maxLength: 80, size: 'max' }),
        ({ sizeLog2, indirect, eventIdx, split }, steps) => {
          const size = 1 << sizeLog2;
          const rig = createDeviceRig({
            size,
            features: { indirect, eventIdx },
            ...(split ? { splitSize: 48 } : {}),
          });
          const held: DescriptorChain[] = [];
          for (const move of steps) {
            if (typeof move === 'string') moveDevice(rig, held, move);
            else strike(rig.driver.ring, rig.payload, move);
            expect(held.length).toBe(rig.queue.inFlightCount);
            expect(held.length).toBeLessThanOrEqual(size);
            popped += held.length;
          }
          const { violation } = rig.queue;
          if (violation !== undefined) broken++;
          expect(violation?.section ?? '2.7').toMatch(/^2\.7(\.\d+)*$/);
          expect(violation === undefined || rig.queue.pop() === undefined).toBe(true);
          rig.queue.release();
          rig.memory.assertNothingMapped();
        },
      ),
      { numRuns: 400 },
    );
    expect(broken).toBeGreaterThan(20);
    expect(popped).toBeGreaterThan(100);
  });
});

type DriverMove = 'add' | 'publish' | 'kick' | 'pop' | 'off' | 'on' | 'look' | 'answer' | 'snapshot';
const driverMove: fc.Arbitrary<DriverMove> = fc.constantFrom(
  ...(['add', 'add', 'publish', 'kick', 'pop', 'off', 'on', 'look', 'answer', 'answer', 'snapshot'] as const),
);

class DriverUnderFire {
  readonly rig: DriverRig;
  readonly #list = createBufferList();
  readonly #outstanding = new Set<number>();
  #next = 0;

  constructor(rig: DriverRig) {
    this.rig = rig;
  }

  move(move: DriverMove): void {
    const { queue, device } = this.rig;
    switch (move) {
      case 'add':
        this.#add();
        break;
      case 'publish':
        queue.publish();
        break;
      case 'kick':
        queue.needsKick();
        break;
      case 'pop':
        this.#pop();
        break;
      case 'off':
        queue.disableCalls();
        break;
      case 'on':
        queue.enableCalls();
        break;
      case 'look':
        queue.hasUsed();
        break;
      case 'answer':
        for (const head of device.takeAvailable()) device.use(head, head & 63);
        break;
      case 'snapshot':
        queue.snapshot();
    }
  }

  /** Every token came back or is abandoned, once; nothing stays shared. */
  finish(): void {
    const abandoned: number[] = [];
    expect(this.rig.queue.inFlightCount).toBe(this.#outstanding.size);
    expect(this.rig.queue.release((token) => abandoned.push(token))).toBe(true);
    expect(abandoned.toSorted((a, b) => a - b)).toEqual([...this.#outstanding].toSorted((a, b) => a - b));
    expect(this.rig.close()).toBe(true);
  }

  #add(): void {
    const count = Math.min(1 + (this.#next % 4), this.rig.queue.size);
    const at = this.rig.payload + (this.#next % 500) * 128;
    this.#list.clear();
    for (let i = 0; i < count; i++) {
      if (i * 2 < count) this.#list.addReadable(at + i * 16, 16);
      else this.#list.addWritable(at + i * 16, 16);
    }
    if (this.rig.queue.add(this.#list, this.#next) === 0) this.#outstanding.add(this.#next++);
  }

  #pop(): void {
    const { queue } = this.rig;
    for (let token = queue.popUsed(); token >= 0; token = queue.popUsed()) {
      if (!this.#outstanding.delete(token))
        throw new Error(`Token ${token} came back, but was not outstanding`);
      expect(queue.usedSize).toBeLessThanOrEqual(32);
    }
  }
}

describe('hostile device against the driver half', () => {
  const step = fc.oneof({ weight: 1, arbitrary: blow }, { weight: 2, arbitrary: driverMove });

  it('never throws, never hangs, gives no token twice, and takes all memory back', () => {
    let broken = 0;
    fc.assert(
      fc.property(
        fc.record({ sizeLog2: fc.nat(4), indirect: fc.boolean(), eventIdx: fc.boolean() }),
        fc.array(step, { maxLength: 80, size: 'max' }),
        ({ sizeLog2, indirect, eventIdx }, steps) => {
          const rig = createDriverRig({
            size: 1 << sizeLog2,
            features: { indirect, eventIdx },
            bufferCountMax: 3,
            shareMax: 40,
          });
          const driver = new DriverUnderFire(rig);
          const { ring } = rig.device;
          for (const move of steps) {
            if (typeof move === 'string') driver.move(move);
            else if (move.target !== 'table') strike(ring, rig.queue.addresses.descriptorArea, move);
          }
          if (rig.queue.violation !== undefined) broken++;
          driver.finish();
        },
      ),
      { numRuns: 200 },
    );
    expect(broken).toBeGreaterThan(10);
  });
});
