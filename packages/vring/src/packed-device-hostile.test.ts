import {
  VRING_DESC_F_INDIRECT as INDIRECT,
  VRING_DESC_F_NEXT as NEXT,
  VRING_DESC_F_WRITE as WRITE,
  VRING_PACKED_DESC,
} from '@virtlab/abi/virtio-ring';
import { IdentityDeviceMemory } from '@virtlab/guest-memory';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { createDeviceQueue } from './device-queue.ts';
import {
  createPackedDeviceRig,
  type DeviceRigOptions,
  missingOfBroken,
  packedAvailableFlags,
  type PackedDeviceRig,
  type RawPackedDescriptor,
} from './testing.ts';

type Descriptors = readonly Partial<RawPackedDescriptor>[];

/** A rig with one chain offered under id 0. */
function offered(
  chain: (rig: PackedDeviceRig) => Descriptors,
  options: DeviceRigOptions = {},
): PackedDeviceRig {
  const rig = createPackedDeviceRig(options);
  rig.driver.makeAvailable(0, ...chain(rig));
  return rig;
}

const table = (rig: PackedDeviceRig): bigint => rig.payload + 0x8000n;
const buffer = (rig: PackedDeviceRig, flags: number = 0): Partial<RawPackedDescriptor> => ({
  address: rig.payload,
  size: 4,
  flags,
});

describe('packed ring, hostile driver: chains', () => {
  it('cases 5, 6, 37 §2.8.17 a chain longer than the queue: NEXT in every descriptor', () => {
    for (const size of [1, 4, 7]) {
      const rig = createPackedDeviceRig({ size });
      for (let slot = 0; slot < size; slot++)
        rig.driver.ring.setDescriptor(slot, { ...buffer(rig), flags: NEXT | packedAvailableFlags(1) });
      expect(missingOfBroken(rig, '2.8.17', 'Chain at 0x0', 'not available')).toEqual([]);
    }
  });

  it('cases 6, 37 §2.8.17 the same from the middle of the ring, over descriptors that the device has', () => {
    const rig = createPackedDeviceRig({ size: 4 });
    rig.driver.makeAvailable(0, buffer(rig), buffer(rig));
    rig.queue.pop();
    for (const [slot, wrap] of [
      [2, 1],
      [3, 1],
      [0, 0],
      [1, 0],
    ] as const)
      rig.driver.ring.setDescriptor(slot, { ...buffer(rig), flags: NEXT | packedAvailableFlags(wrap) });
    expect(missingOfBroken(rig, '2.8.17', 'Chain at 0x2', 'the 0x2 of')).toEqual([]);
  });

  it('case 6 a chain of exactly the queue size is served, direct and in a table', () => {
    for (const inTable of [false, true]) {
      const rig = offered((own) => {
        const chain = Array.from({ length: 8 }, () => buffer(own));
        return inTable ? [own.driver.table(table(own), ...chain)] : chain;
      });
      expect(rig.queue.pop()).toMatchObject({ descriptorCount: 8, readableSize: 32 });
    }
  });

  it('case 36 §2.8.17 a chain that goes on in a descriptor which is not available', () => {
    for (const flags of [0, packedAvailableFlags(0), 0x8080]) {
      const rig = offered((own) => [buffer(own), buffer(own)]);
      rig.driver.ring.setDescriptor(1, { ...buffer(rig), flags });
      expect(missingOfBroken(rig, '2.8.17', 'descriptor 0x1', 'not available')).toEqual([]);
    }
  });

  it('case 7 §2.8.17 device-readable after device-writable, also when it is empty', () => {
    for (const size of [4, 0]) {
      const rig = offered((own) => [buffer(own, WRITE), { ...buffer(own), size }]);
      expect(missingOfBroken(rig, '2.8.17', 'descriptor 0x1')).toEqual([]);
      const inTable = offered((own) => [
        own.driver.table(table(own), buffer(own, WRITE), { ...buffer(own), size }),
      ]);
      expect(missingOfBroken(inTable, '2.8.17', 'indirect table entry 0x1')).toEqual([]);
    }
  });

  it('case 8 zero-length buffers are legal: no segment, address not looked at', () => {
    const rig = offered((own) => [
      { address: 1n, size: 0 },
      buffer(own),
      { address: (1n << 64n) - 1n, size: 0, flags: WRITE },
    ]);
    const chain = rig.queue.pop()!;
    expect(chain).toMatchObject({ readableCount: 1, readableSize: 4, writableSize: 0, descriptorCount: 3 });
    expect(chain.segments.count).toBe(1);
  });

  it('case 9 §2.8.4 total length over 2^32 - 1', () => {
    const rig = offered((own) => [buffer(own), { address: own.payload, size: 0xffff_fffd }]);
    expect(missingOfBroken(rig, '2.8.4', '0x100000001', 'descriptor 0x1')).toEqual([]);
  });

  it('cases 10, 11 §2.8.4 buffers that wrap 2^64 or lie outside memory, direct and in a table', () => {
    for (const [address, size] of [
      [0xffff_ffff_ffff_fff0n, 0x20],
      [0n, 8],
      [1n << 63n, 8],
    ] as const) {
      for (const flags of [0, WRITE]) {
        const direct = offered((own) => [buffer(own, flags), { address, size, flags }]);
        expect(missingOfBroken(direct, '2.8.4', `0x${address.toString(16)}`, 'descriptor 0x1')).toEqual([]);
        const inTable = offered((own) => [
          own.driver.table(table(own), buffer(own, flags), { address, size, flags }),
        ]);
        expect(missingOfBroken(inTable, '2.8.4', 'indirect table entry 0x1')).toEqual([]);
      }
    }
  });

  it("case 12 buffers that overlap the ring are the driver's own harm: state stays private", () => {
    const rig = offered((own) => [
      { address: own.driver.ring.addresses.descriptorArea, size: 8 * 16, flags: WRITE },
    ]);
    const chain = rig.queue.pop()!;
    expect(chain.write(0, new Uint8Array(128).fill(0xff))).toBe(true);
    expect(chain).toMatchObject({ head: 0, writableSize: 128 });
    rig.queue.push(chain, 128);
    rig.queue.publish();
    expect(rig.driver.takeUsed()[0]).toEqual({ id: 0, size: 128 });
    expect(rig.queue.pop()).toBeUndefined();
    expect(rig.queue.violation).toBeUndefined();
  });

  it('case 23 unknown flag bits are ignored, as they are reserved', () => {
    const rig = offered((own) => [buffer(own, 0x7f78 | WRITE)]);
    expect(rig.queue.pop()).toMatchObject({ writableSize: 4, descriptorCount: 1 });
  });

  it('§2.8.18 more segments than segmentCountMax', () => {
    const rig = offered((own) => [buffer(own), buffer(own), buffer(own)], { segmentCountMax: 2 });
    expect(missingOfBroken(rig, '2.8.4', 'more mapped segments')).toEqual([]);
  });
});

describe('packed ring, hostile driver: tables', () => {
  it('cases 13, 14 §2.8.7 table length 0 or no multiple of 16', () => {
    for (const size of [0, 15, 17, 0xffff_ffff]) {
      const rig = offered((own) => [{ address: table(own), size, flags: INDIRECT }]);
      expect(missingOfBroken(rig, '2.8.7', `0x${size.toString(16)} bytes`)).toEqual([]);
    }
  });

  it('case 15 §2.8.17 table of more entries than the queue', () => {
    const rig = offered((own) => [{ address: table(own), size: 9 * 16, flags: INDIRECT }]);
    expect(missingOfBroken(rig, '2.8.17', '0x90 bytes', 'queue size of 0x8')).toEqual([]);
  });

  it('cases 16, 17 §2.8.7 flags of entries other than WRITE are reserved: no table in a table, no next', () => {
    const rig = offered((own) => [
      own.driver.table(
        table(own),
        { ...buffer(own), flags: INDIRECT | NEXT | 0x8080, id: 0xffff },
        { ...buffer(own), flags: WRITE | INDIRECT, id: 99 },
      ),
    ]);
    expect(rig.queue.pop()).toMatchObject({ head: 0, descriptorCount: 2, readableSize: 4, writableSize: 4 });
  });

  it('case 18 §2.8.19 INDIRECT without VIRTIO_F_INDIRECT_DESC', () => {
    const rig = offered((own) => [own.driver.table(table(own), buffer(own))], {
      features: { indirect: false },
    });
    expect(missingOfBroken(rig, '2.8.19', 'not negotiated')).toEqual([]);
  });

  it('cases 19, 20 §2.8.19 INDIRECT in a chain: with NEXT, or after direct descriptors', () => {
    const first = offered((own) => [own.driver.table(table(own), buffer(own)), buffer(own)]);
    expect(missingOfBroken(first, '2.8.19', 'Descriptor 0x0')).toEqual([]);
    const last = offered((own) => [buffer(own), own.driver.table(table(own), buffer(own))]);
    expect(missingOfBroken(last, '2.8.19', 'Descriptor 0x1')).toEqual([]);
  });

  it('case 21 §2.8.7 WRITE on the descriptor that names the table is ignored', () => {
    const rig = offered((own) => {
      const named = own.driver.table(table(own), buffer(own));
      return [{ ...named, flags: INDIRECT | WRITE }];
    });
    expect(rig.queue.pop()).toMatchObject({ readableSize: 4, writableSize: 0 });
  });

  it('case 22 tables at any alignment, scattered over segments', () => {
    for (const at of [0n, 1n, 2n, 5n, 8n]) {
      const rig = offered((own) => [own.driver.table(table(own) + at, buffer(own), buffer(own, WRITE))], {
        splitSize: 20,
      });
      expect(rig.queue.pop()).toMatchObject({ readableSize: 4, writableSize: 4, descriptorCount: 2 });
    }
  });

  it('case 11 §2.8.7 a table outside memory', () => {
    const rig = offered(() => [{ address: 16n, size: 32, flags: INDIRECT }]);
    expect(missingOfBroken(rig, '2.8.7', 'Indirect table at 0x10')).toEqual([]);
  });
});

describe('packed ring, hostile driver: buffer ids', () => {
  it('case 37 §2.8.21.1 an id outside the queue, direct and with a table', () => {
    for (const id of [8, 0x7fff, 0xffff]) {
      for (const inTable of [false, true]) {
        const rig = createPackedDeviceRig();
        rig.driver.makeAvailable(id, inTable ? rig.driver.table(table(rig), buffer(rig)) : buffer(rig));
        expect(missingOfBroken(rig, '2.8.21.1', `0x${id.toString(16)} in a queue of 0x8`)).toEqual([]);
      }
    }
  });

  it('cases 28, 37 §2.8.21.1 an id that is in flight, also when it is held back in order', () => {
    for (const inOrder of [false, true]) {
      const rig = createPackedDeviceRig({ features: { inOrder } });
      for (const id of [3, 4]) rig.driver.makeAvailable(id, buffer(rig));
      rig.queue.pop();
      const second = rig.queue.pop()!;
      if (inOrder) rig.queue.push(second, 0);
      rig.driver.makeAvailable(inOrder ? 4 : 3, buffer(rig));
      expect(missingOfBroken(rig, '2.8.21.1', 'in flight already')).toEqual([]);
    }
  });

  it('case 29 §2.8.17 more in flight than the queue holds', () => {
    const rig = createPackedDeviceRig({ size: 4 });
    for (const id of [0, 1]) rig.driver.makeAvailable(id, buffer(rig), buffer(rig));
    rig.queue.pop();
    rig.queue.pop();
    rig.driver.makeAvailable(2, buffer(rig));
    expect(missingOfBroken(rig, '2.8.17', 'the 0x0 of')).toEqual([]);
  });

  it('case 34 every word of a chain is read exactly once, the first flags by an atomic load', () => {
    const rig = createPackedDeviceRig();
    const { i32 } = rig.region;
    const reads = new Map<number, number>();
    const count = (index: number): void => void reads.set(index, (reads.get(index) ?? 0) + 1);
    const counted = new Proxy(i32, {
      get: (target, key) => {
        count(Number(key));
        return target[Number(key)];
      },
    });
    const atomics: number[] = [];
    const load = Atomics.load;
    const spy = vi.spyOn(Atomics, 'load').mockImplementation(((array: Int32Array, index: number) => {
      if (array !== counted) return load(array, index);
      count(index);
      atomics.push(index);
      return load(i32, index);
    }) as typeof Atomics.load);
    onTestFinished(() => spy.mockRestore());
    const { addresses } = rig.driver.ring;
    const memory = new IdentityDeviceMemory([
      { guestAddress: rig.base, region: { ...rig.region, i32: counted } },
    ]);
    const features = { packed: true, indirect: true, eventIdx: false };
    const made = createDeviceQueue({ addresses, memory, features });
    if (!made.ok) throw new Error(made.violation.message);
    rig.driver.makeAvailable(0, buffer(rig), buffer(rig), buffer(rig, WRITE));
    expect(made.queue.hasAvailable()).toBe(true);
    expect(made.queue.pop()).toMatchObject({ descriptorCount: 3 });
    expect(reads.size).toBe(3 * 4);
    expect([...new Set(reads.values())]).toEqual([1]);
    expect(atomics).toHaveLength(1);
  });

  it('case 34 descriptors rewritten while the chain is in flight change nothing', () => {
    const rig = offered((own) => [buffer(own), buffer(own, WRITE)]);
    const chain = rig.queue.pop()!;
    for (let slot = 0; slot < 8; slot++)
      rig.driver.ring.setDescriptor(slot, { address: 1n, size: 99, id: 7, flags: NEXT | 0x8000 });
    expect(chain).toMatchObject({ head: 0, readableSize: 4, writableSize: 4 });
    rig.queue.push(chain, 4);
    rig.queue.publish();
    expect(rig.driver.ring.descriptor(0)).toMatchObject({ id: 0, size: 4 });
    expect(rig.driver.ring.descriptor(1)).toMatchObject({ id: 7, size: 99 });
    expect(VRING_PACKED_DESC.size).toBe(16);
  });
});
