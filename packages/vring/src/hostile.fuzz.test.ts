import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createDeviceRig, createDriverRig, type RawRing } from './testing.ts';
import { campaign, campaignTimeoutMs } from './testing/campaign.ts';
import { DEVICE_MOVES, DeviceUnderFire, DRIVER_MOVES, DriverUnderFire } from './testing/under-fire.ts';

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

describe('split ring: hostile driver against the device half', { timeout: campaignTimeoutMs() }, () => {
  const step = fc.oneof(
    { weight: 3, arbitrary: blow },
    { weight: 2, arbitrary: fc.constantFrom(...DEVICE_MOVES) },
  );

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
          inOrder: fc.boolean(),
        }),
        fc.array(step, { maxLength: 80, size: 'max' }),
        ({ sizeLog2, indirect, eventIdx, split, inOrder }, steps) => {
          const size = 1 << sizeLog2;
          const rig = createDeviceRig({
            size,
            features: { indirect, eventIdx, inOrder },
            ...(split ? { splitSize: 48 } : {}),
          });
          const device = new DeviceUnderFire(rig);
          for (const move of steps) {
            if (typeof move === 'string') device.move(move);
            else strike(rig.driver.ring, rig.payload, move);
          }
          popped += device.poppedCount;
          const { violation } = rig.queue;
          if (violation !== undefined) broken++;
          expect(violation?.section ?? '2.7').toMatch(/^2\.7(\.\d+)*$/);
          expect(violation === undefined || rig.queue.pop() === undefined).toBe(true);
          rig.queue.release();
          rig.memory.assertNothingMapped();
        },
      ),
      campaign(400),
    );
    expect(broken).toBeGreaterThan(20);
    expect(popped).toBeGreaterThan(100);
  });
});

describe('split ring: hostile device against the driver half', { timeout: campaignTimeoutMs() }, () => {
  const step = fc.oneof(
    { weight: 1, arbitrary: blow },
    { weight: 2, arbitrary: fc.constantFrom(...DRIVER_MOVES) },
  );

  it('never throws, never hangs, gives no token twice, and takes all memory back', () => {
    let broken = 0;
    fc.assert(
      fc.property(
        fc.record({
          sizeLog2: fc.nat(4),
          indirect: fc.boolean(),
          eventIdx: fc.boolean(),
          inOrder: fc.boolean(),
        }),
        fc.array(step, { maxLength: 80, size: 'max' }),
        ({ sizeLog2, indirect, eventIdx, inOrder }, steps) => {
          const rig = createDriverRig({
            size: 1 << sizeLog2,
            features: { indirect, eventIdx, inOrder },
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
      campaign(200),
    );
    expect(broken).toBeGreaterThan(10);
  });
});
