import { VRING_DESC_F_NEXT as NEXT, VRING_DESC_F_WRITE as WRITE } from '@virtlab/abi/virtio-ring';
import { describe, expect, it } from 'vitest';
import { createDeviceRig, type DeviceRig, type DeviceRigOptions, missingOfBroken } from './testing.ts';

/** A rig with one chain offered. */
function offered(write: (rig: DeviceRig) => number, options: DeviceRigOptions = {}): DeviceRig {
  const rig = createDeviceRig(options);
  rig.driver.makeAvailable(write(rig));
  return rig;
}

const table = (rig: DeviceRig): bigint => rig.payload + 0x8000n;

describe('hostile driver: available ring', () => {
  it('case 1 §2.7.6.1 available index ahead by more than the queue size', () => {
    for (const jump of [9, 1000, 0x8000]) {
      const rig = createDeviceRig();
      rig.driver.ring.availIdx = jump;
      expect(missingOfBroken(rig, '2.7.6.1', `0x${jump.toString(16)}`)).toEqual([]);
    }
    const rig = createDeviceRig();
    rig.driver.ring.availIdx = 8;
    expect(rig.queue.pop()).toBeDefined();
  });

  it('case 1 §2.7.6.1 the same across the 16-bit wrap', () => {
    const rig = createDeviceRig({ size: 4 });
    rig.driver.ring.setDescriptor(0, { address: rig.payload, size: 1 });
    for (let i = 0; i < 65_534; i++) {
      rig.driver.makeAvailable(0);
      rig.queue.push(rig.queue.pop()!, 0);
      rig.queue.publish();
    }
    rig.driver.ring.availIdx = 3;
    expect(missingOfBroken(rig, '2.7.6.1', 'moved to 0x3', 'at 0xfffe')).toEqual([]);
  });

  it('case 2 §2.7.6.1 available index moved back', () => {
    const rig = createDeviceRig();
    rig.driver.makeAvailable(
      rig.driver.chain(0, { address: rig.payload, size: 1 }),
      rig.driver.chain(1, { address: rig.payload, size: 1 }),
    );
    rig.queue.pop();
    rig.queue.push(rig.queue.pop()!, 0);
    rig.driver.ring.availIdx = 1;
    expect(rig.queue.pop()).toBeUndefined();
    expect(rig.queue.violation).toMatchObject({ section: '2.7.6.1' });
  });

  it('case 2 §2.7.6.1 available index moved back between what was seen and what was popped', () => {
    const rig = createDeviceRig();
    rig.driver.makeAvailable(0, 1, 2);
    rig.queue.pop();
    rig.driver.ring.availIdx = 1;
    expect(rig.queue.enableKicks()).toBe(false);
    expect(rig.queue.violation?.message).toContain('last seen 0x3');
  });

  it('case 3 §2.7.6 head outside the descriptor table', () => {
    for (const head of [8, 500, 0xffff]) {
      const rig = offered(() => head);
      expect(missingOfBroken(rig, '2.7.6', `descriptor 0x${head.toString(16)}`, 'queue of 0x8')).toEqual([]);
    }
  });

  it('case 28 §2.7.13 the same head made available while it is in flight', () => {
    const rig = createDeviceRig();
    rig.driver.makeAvailable(rig.driver.chain(3, { address: rig.payload, size: 4 }), 3);
    const chain = rig.queue.pop()!;
    expect(rig.queue.pop()).toBeUndefined();
    expect(rig.queue.violation).toEqual({
      section: '2.7.13',
      message: 'Available entry 0x1 names descriptor 0x3, which is in flight already',
    });
    expect(chain.readU32(0)).toBe(0);
    rig.queue.push(chain, 0);
    rig.queue.publish();
    expect(rig.driver.ring.usedIdx).toBe(0);
    rig.queue.release();
    rig.memory.assertNothingMapped();
  });

  it('case 29 more in flight than the queue holds cannot be: it needs a head twice', () => {
    const rig = createDeviceRig({ size: 2 });
    rig.driver.chain(0, { address: rig.payload, size: 4 });
    rig.driver.chain(1, { address: rig.payload, size: 4 });
    rig.driver.makeAvailable(0, 1);
    expect([rig.queue.pop(), rig.queue.pop()]).not.toContain(undefined);
    rig.driver.makeAvailable(0);
    expect(rig.queue.pop()).toBeUndefined();
    expect(rig.queue.violation?.section).toBe('2.7.13');
    expect(rig.queue.inFlightCount).toBe(2);
  });
});

describe('hostile driver: chains', () => {
  it('case 4 §2.7.5 next outside the descriptor table', () => {
    const rig = offered(({ driver, payload }) =>
      driver.chain(0, { address: payload, size: 4, flags: NEXT, next: 300 }),
    );
    expect(missingOfBroken(rig, '2.7.5', 'next 0x12c', 'descriptor table of 0x8')).toEqual([]);
  });

  it('case 5 §2.7.5.3.1 a descriptor that follows itself, and a longer loop', () => {
    const self = offered(({ driver, payload }) =>
      driver.chain(1, { address: payload, size: 4, flags: NEXT, next: 1 }),
    );
    expect(missingOfBroken(self, '2.7.5.3.1', 'Chain at 0x1', 'loop')).toEqual([]);
    const ring = offered(({ driver, payload }) =>
      driver.chain(0, { address: payload, size: 4 }, { address: payload, size: 4, flags: NEXT, next: 0 }),
    );
    expect(missingOfBroken(ring, '2.7.5.3.1', 'Chain at 0x0')).toEqual([]);
  });

  it('case 6 §2.7.5.3.1 a chain longer than the queue, by way of an indirect table', () => {
    const rig = offered((own) => {
      const named = own.driver.table(
        table(own),
        ...Array.from({ length: 8 }, () => ({ address: own.payload, size: 1 })),
      );
      return own.driver.chain(0, { address: own.payload, size: 1 }, named);
    });
    expect(missingOfBroken(rig, '2.7.5.3.1', 'queue size 0x8')).toEqual([]);
  });

  it('case 6 a chain of exactly the queue size is served, direct and in a table', () => {
    const buffers = ({ payload }: DeviceRig): { address: bigint; size: number }[] =>
      Array.from({ length: 8 }, () => ({ address: payload, size: 1 }));
    const direct = offered((own) => own.driver.chain(0, ...buffers(own)));
    const indirect = offered((own) => own.driver.chain(3, own.driver.table(table(own), ...buffers(own))));
    for (const { queue } of [direct, indirect]) expect(queue.pop()).toMatchObject({ descriptorCount: 8 });
  });

  it('case 7 §2.7.4.2 device-readable after device-writable', () => {
    for (const size of [4, 0]) {
      const rig = offered(({ driver, payload }) =>
        driver.chain(4, { address: payload, size: 4, flags: WRITE }, { address: payload, size }),
      );
      expect(missingOfBroken(rig, '2.7.4.2', 'descriptor 0x5')).toEqual([]);
    }
    const rig = offered((own) => {
      const named = own.driver.table(table(own), { address: own.payload, size: 4 });
      return own.driver.chain(0, { address: own.payload, size: 4, flags: WRITE }, named);
    });
    expect(missingOfBroken(rig, '2.7.4.2', 'indirect table entry 0x0')).toEqual([]);
  });

  it('case 8 zero-length buffers are legal: no segment, address not looked at, parts counted right', () => {
    const rig = offered(({ driver, payload }) =>
      driver.chain(
        0,
        { address: 0xffff_ffff_ffff_ffffn, size: 0 },
        { address: payload, size: 4 },
        { address: 0n, size: 0, flags: WRITE },
        { address: payload + 8n, size: 2, flags: WRITE },
      ),
    );
    const chain = rig.queue.pop()!;
    expect(chain).toMatchObject({ descriptorCount: 4, readableCount: 1, readableSize: 4, writableSize: 2 });
    expect(chain.segments.count).toBe(2);
    expect(chain.writeU16(0, 0xffff)).toBe(true);
    const empty = offered(({ driver }) => driver.chain(0, { size: 0 }));
    expect(empty.queue.pop()).toMatchObject({ readableSize: 0, writableSize: 0, readableCount: 0 });
  });

  it('cases 10, 11 §2.7.5 buffers that wrap 2^64 or lie outside memory, partly or wholly', () => {
    const end = (rig: DeviceRig): bigint => rig.base + BigInt(rig.region.size);
    const places: ((rig: DeviceRig) => [bigint, number])[] = [
      () => [0xffff_ffff_ffff_fff0n, 0x20],
      (rig) => [end(rig) - 4n, 8],
      (rig) => [end(rig), 1],
      (rig) => [rig.base - 1n, 2],
      (rig) => [rig.payload & 0xffff_ffffn, 8],
      (rig) => [rig.payload | (1n << 63n), 8],
      (rig) => [rig.payload, 0xffff_fff0],
    ];
    for (const place of places) {
      for (const flags of [0, WRITE]) {
        const rig = createDeviceRig();
        const [address, size] = place(rig);
        rig.driver.makeAvailable(
          rig.driver.chain(2, { address: rig.payload, size: 4, flags }, { address, size, flags }),
        );
        expect(
          missingOfBroken(
            rig,
            '2.7.5',
            `0x${address.toString(16)}`,
            `0x${size.toString(16)} bytes`,
            'descriptor 0x3',
          ),
        ).toEqual([]);
      }
    }
  });

  it("case 12 buffers that overlap the ring are the driver's own harm: state stays private", () => {
    const rig = offered(({ driver }) =>
      driver.chain(0, { address: driver.ring.addresses.descriptorArea, size: 8 * 16, flags: WRITE }),
    );
    const chain = rig.queue.pop()!;
    expect(chain.write(0, new Uint8Array(128).fill(0xff))).toBe(true);
    expect(chain).toMatchObject({ head: 0, writableSize: 128 });
    rig.queue.push(chain, 128);
    rig.queue.publish();
    expect(rig.driver.takeUsed()).toEqual([{ id: 0, size: 128 }]);
    rig.driver.makeAvailable(0);
    expect(missingOfBroken(rig, '2.7.5.3.1', '0xffff')).toEqual([]);
  });

  it('case 23 unknown flag bits are ignored, as they are reserved', () => {
    const rig = offered(({ driver, payload }) =>
      driver.chain(0, { address: payload, size: 4, flags: 0xfff8 | WRITE }),
    );
    expect(rig.queue.pop()).toMatchObject({ writableSize: 4, descriptorCount: 1 });
  });

  it('§2.7.4.1 more segments than segmentCountMax', () => {
    const rig = offered(({ driver, payload }) => driver.chain(0, { address: payload, size: 64 }), {
      segmentCountMax: 3,
      splitSize: 16,
    });
    expect(missingOfBroken(rig, '2.7.5', 'more mapped segments')).toEqual([]);
    const enough = offered(({ driver, payload }) => driver.chain(0, { address: payload, size: 64 }), {
      segmentCountMax: 4,
      splitSize: 16,
    });
    expect(enough.queue.pop()!.segments.count).toBe(4);
  });
});
