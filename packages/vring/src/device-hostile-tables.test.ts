import {
  VRING_DESC_F_INDIRECT as INDIRECT,
  VRING_DESC_F_NEXT as NEXT,
  VRING_DESC_F_WRITE as WRITE,
} from '@virtlab/abi/virtio-ring';
import { describe, expect, it } from 'vitest';
import type { QueueAddresses } from './contract.ts';
import { createDeviceQueue } from './device-queue.ts';
import { createDeviceRig, type DeviceRig, type DeviceRigOptions, missingOfBroken } from './testing.ts';

/** A rig with one chain offered. */
function offered(write: (rig: DeviceRig) => number, options: DeviceRigOptions = {}): DeviceRig {
  const rig = createDeviceRig(options);
  rig.driver.makeAvailable(write(rig));
  return rig;
}

const table = (rig: DeviceRig): bigint => rig.payload + 0x8000n;

describe('hostile driver: indirect tables', () => {
  const one = (rig: DeviceRig) => rig.driver.table(table(rig), { address: rig.payload, size: 4 });

  it('cases 13, 14 §2.7.5.3 table length 0 or no multiple of 16', () => {
    for (const size of [0, 1, 15, 17]) {
      const rig = offered((own) => own.driver.chain(6, { ...one(own), size }));
      expect(missingOfBroken(rig, '2.7.5.3', 'Descriptor 0x6', `0x${size.toString(16)} bytes`)).toEqual([]);
    }
  });

  it('case 15 §2.7.5.3.1 table of more entries than the queue', () => {
    for (const size of [9 * 16, 0xffff_fff0]) {
      const rig = offered((own) => own.driver.chain(0, { ...one(own), size }));
      expect(missingOfBroken(rig, '2.7.5.3.1', `0x${size.toString(16)} bytes`, 'queue size of 0x8')).toEqual(
        [],
      );
    }
  });

  it('case 16 §2.7.5.3.1 a table in a table, also one that names itself', () => {
    const rig = offered((own) => {
      own.driver.ring.writeDescriptor(table(own), { address: table(own), size: 16, flags: INDIRECT });
      return own.driver.chain(0, { address: table(own), size: 16, flags: INDIRECT });
    });
    expect(missingOfBroken(rig, '2.7.5.3.1', 'entry 0x0 is itself indirect')).toEqual([]);
  });

  it('case 17 §2.7.5 next outside the table, though inside the queue', () => {
    const rig = offered((own) => {
      own.driver.ring.writeDescriptor(table(own), { address: own.payload, size: 4, flags: NEXT, next: 2 });
      return own.driver.chain(0, { address: table(own), size: 32, flags: INDIRECT });
    });
    expect(missingOfBroken(rig, '2.7.5', 'next 0x2', 'indirect table of 0x2')).toEqual([]);
  });

  it('case 5 §2.7.5.3.1 a loop in a table', () => {
    const rig = offered((own) => {
      own.driver.ring.writeDescriptor(table(own), { address: own.payload, size: 4, flags: NEXT, next: 0 });
      return own.driver.chain(0, { address: table(own), size: 16, flags: INDIRECT });
    });
    expect(missingOfBroken(rig, '2.7.5.3.1', 'loop')).toEqual([]);
  });

  it('case 18 §2.7.5.3.1 INDIRECT without VIRTIO_F_INDIRECT_DESC', () => {
    const rig = offered((own) => own.driver.chain(0, one(own)), { features: { indirect: false } });
    expect(missingOfBroken(rig, '2.7.5.3.1', 'not negotiated', 'flags 0x4')).toEqual([]);
  });

  it('case 19 §2.7.5.3.1 INDIRECT together with NEXT', () => {
    const rig = offered((own) => own.driver.chain(0, one(own), { address: own.payload, size: 1 }));
    expect(missingOfBroken(rig, '2.7.5.3.1', 'flags 0x5', 'NEXT together with INDIRECT')).toEqual([]);
  });

  it('case 11 §2.7.5.3 a table outside memory', () => {
    const rig = offered((own) => own.driver.chain(0, { address: 0x10n, size: 16, flags: INDIRECT }));
    expect(missingOfBroken(rig, '2.7.5.3', '0x10', 'not wholly inside')).toEqual([]);
  });

  it('case 20 §2.7.5.3.2 the device MUST handle normal descriptors followed by an indirect one', () => {
    const rig = offered((own) => {
      const named = own.driver.table(
        table(own),
        { address: own.payload + 8n, size: 2 },
        { address: own.payload + 16n, size: 1, flags: WRITE },
      );
      return own.driver.chain(0, { address: own.payload, size: 4 }, { address: own.payload, size: 3 }, named);
    });
    expect(rig.queue.pop()).toMatchObject({
      readableSize: 9,
      writableSize: 1,
      readableCount: 3,
      descriptorCount: 4,
    });
  });

  it('case 21 §2.7.5.3.2 the device MUST ignore WRITE on the descriptor that names the table', () => {
    const rig = offered((own) => own.driver.chain(0, { ...one(own), flags: INDIRECT | WRITE }));
    expect(rig.queue.pop()).toMatchObject({ readableSize: 4, writableSize: 0 });
  });

  it('case 22 tables at any alignment, scattered over segments, and entries not in order', () => {
    for (const offset of [0n, 1n, 2n, 4n, 7n, 13n]) {
      for (const splitSize of [undefined, 8, 5]) {
        const rig = offered(
          (own) => {
            const at = table(own) + offset;
            const entry = (i: number): bigint => at + BigInt(i * 16);
            own.driver.ring.writeDescriptor(entry(0), {
              address: own.payload,
              size: 1,
              flags: NEXT,
              next: 2,
            });
            own.driver.ring.writeDescriptor(entry(1), { address: own.payload, size: 3, flags: WRITE });
            own.driver.ring.writeDescriptor(entry(2), {
              address: own.payload,
              size: 2,
              flags: NEXT,
              next: 1,
            });
            return own.driver.chain(0, { address: at, size: 48, flags: INDIRECT });
          },
          splitSize === undefined ? {} : { splitSize },
        );
        expect(rig.queue.pop()).toMatchObject({ readableSize: 3, writableSize: 3, descriptorCount: 3 });
        rig.queue.release();
        rig.memory.assertNothingMapped();
      }
    }
  });
});

describe('hostile driver: areas', () => {
  const create = (rig: DeviceRig, change: Partial<QueueAddresses>) =>
    createDeviceQueue({
      addresses: { ...rig.driver.ring.addresses, ...change },
      memory: rig.memory,
      features: { indirect: true, eventIdx: true },
    });

  it('case 25 §2.7 size 0, no power of two, or over 32768', () => {
    for (const size of [0, 3, 11, 0x10000, 0xffff, -8, 1.5, Number.NaN]) {
      const rig = createDeviceRig();
      expect(create(rig, { size })).toMatchObject({ ok: false, violation: { section: '2.7' } });
      expect(rig.memory.leaks()).toHaveLength(3);
    }
  });

  it('case 24 §2.7.1 each area misaligned', () => {
    const bad = [
      ['descriptorArea', 8n, '0x10'],
      ['driverArea', 1n, '0x2'],
      ['deviceArea', 2n, '0x4'],
    ] as const;
    for (const [area, by, alignment] of bad) {
      const rig = createDeviceRig();
      const address = rig.driver.ring.addresses[area] + by;
      const made = create(rig, { [area]: address });
      expect(made).toMatchObject({ ok: false, violation: { section: '2.7.1' } });
      const message = made.ok ? '' : made.violation.message;
      expect(message).toContain(`0x${address.toString(16)}`);
      expect(message).toContain(`aligned to ${alignment}`);
      expect(rig.memory.leaks()).toHaveLength(3);
    }
  });

  it('case 24 §2.7 each area outside memory, at 0, over the end or beyond 64 bits', () => {
    for (const area of ['descriptorArea', 'driverArea', 'deviceArea'] as const) {
      const rig = createDeviceRig();
      const end = rig.base + BigInt(rig.region.size);
      for (const address of [0n, end, end - 16n, (1n << 64n) - 16n, 1n << 64n, -16n]) {
        expect(create(rig, { [area]: address })).toMatchObject({ ok: false, violation: { section: '2.7' } });
        expect(rig.memory.leaks()).toHaveLength(3);
      }
    }
  });

  it("case 24 areas that overlap one another are the driver's own harm", () => {
    const rig = createDeviceRig();
    const area = rig.driver.ring.addresses.descriptorArea;
    const made = create(rig, { driverArea: area, deviceArea: area });
    if (!made.ok) throw new Error(made.violation.message);
    for (let i = 0; i < 100; i++) {
      rig.region.u8.fill(i, 0x1000, 0x1100);
      const chain = made.queue.pop();
      if (chain !== undefined) made.queue.push(chain, 0);
      made.queue.needsCall();
    }
    made.queue.release();
    expect(rig.memory.leaks()).toHaveLength(3);
  });

  it('segmentCountMax that is no positive integer is misuse', () => {
    const rig = createDeviceRig();
    for (const segmentCountMax of [0, -1, 1.5]) {
      const { addresses } = rig.driver.ring;
      const features = { indirect: true, eventIdx: true };
      expect(() => createDeviceQueue({ addresses, memory: rig.memory, features, segmentCountMax })).toThrow(
        RangeError,
      );
    }
  });
});
