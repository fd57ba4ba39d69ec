import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createPackedDeviceRig,
  createPackedDriverRig,
  packedAvailableFlags,
  type PackedDeviceRig,
  type PackedDriverRig,
  packedUsedFlags,
  type RawPackedDescriptor,
} from './testing.ts';
import { campaign, campaignTimeoutMs } from './testing/campaign.ts';
import { DEVICE_MOVES, DeviceUnderFire, DRIVER_MOVES, DriverUnderFire } from './testing/under-fire.ts';

/** Values that sit on an edge of something, or are anything. */
const word16 = fc.oneof(
  fc.constantFrom(0, 1, 2, 3, 7, 8, 15, 16, 0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff),
  fc.integer({ min: 0, max: 0xffff }),
);
const word32 = fc.oneof(
  word16,
  fc.constantFrom(0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, 0xffff_ffff),
  fc.integer({ min: 0, max: 0xffff_ffff }),
);

interface Piece {
  readonly a: number;
  readonly b: number;
  readonly flags: number;
}

interface Blow {
  readonly target: 'chain' | 'descriptor' | 'table' | 'flags' | 'skip' | 'event' | 'own event' | 'used';
  readonly at: number;
  readonly id: number;
  readonly pieces: readonly Piece[];
  readonly word: number;
}

const piece: fc.Arbitrary<Piece> = fc.record({
  a: word32,
  b: fc.oneof(fc.nat(64), word32),
  flags: fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(0, 2, 0, 2, 4, 1, 3, 6) },
    { weight: 1, arbitrary: word16 },
  ),
});

function blows(targets: readonly Blow['target'][]): fc.Arbitrary<Blow> {
  return fc.record({
    target: fc.constantFrom(...targets),
    at: fc.nat(63),
    id: fc.oneof({ weight: 12, arbitrary: fc.nat(15) }, { weight: 1, arbitrary: word16 }),
    pieces: fc.array(piece, { minLength: 1, maxLength: 4 }),
    word: word16,
  });
}

const TABLES = 4;

/** Descriptors point near the payload more often than not; tables lie at its start. */
function aim(payload: bigint, at: number, { a, b, flags }: Piece): Partial<RawPackedDescriptor> {
  if ((flags & 4) !== 0 && a % 4 !== 0) {
    return { address: payload + BigInt((at % TABLES) * 0x88), size: (1 + (b % 4)) * 16, flags };
  }
  const address = a % 61 === 0 ? BigInt(a) << 8n : payload + BigInt(a % 0x1_ff00);
  return { address, size: b % 31 === 0 ? b : b % 300, flags };
}

/** What a driver can do to a packed ring: mostly chains that go on where the last one ended. */
function strikeDevice({ driver, payload }: PackedDeviceRig, { target, at, id, pieces, word }: Blow): void {
  const { ring } = driver;
  const [first] = pieces;
  switch (target) {
    case 'chain': {
      const sorted = at % 16 === 0 ? pieces : pieces.toSorted((x, y) => (x.flags & 2) - (y.flags & 2));
      const legal = sorted.length > 1 ? 2 : 6;
      const own = at % 16 === 0 ? sorted : sorted.map((each) => ({ ...each, flags: each.flags & legal }));
      // An id that is free as long as the ring is: that of the slot.
      const name = at % 16 === 1 ? id : driver.slot;
      driver.makeAvailable(name, ...own.slice(0, ring.size).map((each) => aim(payload, at, each)));
      break;
    }
    case 'descriptor':
      ring.setDescriptor(at, { ...aim(payload, at, first!), id });
      break;
    case 'table':
      pieces.forEach((each, i) => {
        ring.writeDescriptor(payload + BigInt((at % TABLES) * 0x88 + i * 16), aim(payload, at, each));
      });
      break;
    case 'flags': {
      const descriptor = ring.descriptor(at);
      const owner = word % 2 === 0 ? packedAvailableFlags(word & 1) : packedUsedFlags(word & 1);
      ring.setDescriptor(at, { ...descriptor, flags: (descriptor.flags & 7) | (word < 8 ? word : owner) });
      break;
    }
    case 'skip':
      driver.advance(at % (ring.size + 1));
      break;
    case 'event':
      ring.driverEvent = { offWrap: word, flags: first!.flags };
      break;
    case 'own event':
      ring.deviceEvent = { offWrap: word, flags: first!.flags };
      break;
    case 'used':
      driver.takeUsed();
  }
}

/** What a device can do to a packed ring: used descriptors in the right place and in wrong ones. */
function strikeDriver({ device }: PackedDriverRig, { target, at, id, pieces, word }: Blow): void {
  const { ring } = device;
  const [first] = pieces;
  switch (target) {
    case 'used':
      device.use(id % ring.size, first!.b, at % 3 === 0 ? Math.min(1 + (word & 3), ring.size) : undefined);
      break;
    case 'skip':
      [device.usedSlot, device.usedWrap] = [at % ring.size, word & 1];
      break;
    case 'flags':
      ring.setDescriptor(at, { ...ring.descriptor(at), id, flags: packedUsedFlags(word & 1) | (word & 7) });
      break;
    case 'descriptor':
    case 'chain':
    case 'table':
      ring.setDescriptor(at, { address: BigInt(first!.a), size: first!.b, id, flags: word });
      break;
    case 'event':
      ring.deviceEvent = { offWrap: word, flags: first!.flags };
      break;
    case 'own event':
      ring.driverEvent = { offWrap: word, flags: first!.flags };
  }
}

const shape = fc.record({
  size: fc.oneof(fc.integer({ min: 1, max: 16 }), fc.integer({ min: 17, max: 70 })),
  indirect: fc.boolean(),
  eventIdx: fc.boolean(),
  inOrder: fc.boolean(),
  split: fc.boolean(),
});

describe('packed ring: hostile driver against the device half', { timeout: campaignTimeoutMs() }, () => {
  const blow = blows([
    ...(['chain', 'chain', 'chain', 'chain', 'chain', 'used', 'used', 'table'] as const),
    ...(['descriptor', 'flags', 'skip', 'event', 'own event'] as const),
  ]);
  const step = fc.oneof(
    { weight: 3, arbitrary: blow },
    { weight: 3, arbitrary: fc.constantFrom(...DEVICE_MOVES) },
  );

  it('never throws, never hangs, never reaches outside memory, and leaves nothing mapped', () => {
    const sections = new Set<string>();
    let popped = 0;
    fc.assert(
      fc.property(
        shape,
        fc.array(step, { maxLength: 80, size: 'max' }),
        ({ size, split, ...features }, steps) => {
          const rig = createPackedDeviceRig({ size, features, ...(split ? { splitSize: 48 } : {}) });
          const device = new DeviceUnderFire(rig);
          for (const move of steps) {
            if (typeof move === 'string') device.move(move);
            else strikeDevice(rig, move);
          }
          popped += device.poppedCount;
          const { violation } = rig.queue;
          if (violation !== undefined) sections.add(violation.section);
          expect(violation?.section ?? '2.8').toMatch(/^2\.8(\.\d+)*$/);
          expect(violation === undefined || rig.queue.pop() === undefined).toBe(true);
          rig.queue.release();
          rig.memory.assertNothingMapped();
        },
      ),
      campaign(400),
    );
    expect(sections.size).toBeGreaterThan(3);
    expect(popped).toBeGreaterThan(300);
  });
});

describe('packed ring: hostile device against the driver half', { timeout: campaignTimeoutMs() }, () => {
  const blow = blows(['used', 'used', 'skip', 'flags', 'descriptor', 'event', 'own event']);
  const step = fc.oneof(
    { weight: 1, arbitrary: blow },
    { weight: 8, arbitrary: fc.constantFrom(...DRIVER_MOVES) },
  );

  it('never throws, never hangs, gives no token twice, and takes all memory back', () => {
    let broken = 0;
    let completed = 0;
    fc.assert(
      fc.property(shape, fc.array(step, { maxLength: 80, size: 'max' }), ({ size, ...features }, steps) => {
        const rig = createPackedDriverRig({ size, features, bufferCountMax: 3, shareMax: 40 });
        const driver = new DriverUnderFire(rig);
        for (const move of steps) {
          if (typeof move === 'string') driver.move(move);
          else strikeDriver(rig, move);
        }
        if (rig.queue.violation !== undefined) broken++;
        expect(rig.queue.violation?.section ?? '2.8').toMatch(/^2\.8(\.\d+)*$/);
        completed += driver.completedCount;
        driver.finish();
      }),
      campaign(600),
    );
    expect(broken).toBeGreaterThan(30);
    expect(completed).toBeGreaterThan(200);
  });
});
