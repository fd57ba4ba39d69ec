import { VRING_DESC_F_NEXT as NEXT, VRING_DESC_F_WRITE as WRITE } from '@virtlab/abi/virtio-ring';
import {
  type DeviceMemory,
  DMA_FAULT_GRANT,
  DMA_FAULT_READONLY,
  DMA_OK,
  type DmaStatus,
  IdentityDeviceMemory,
  type MappedArea,
  type MemoryRegion,
  type SegmentList,
} from '@virtlab/guest-memory';
import { describe, expect, it } from 'vitest';
import type { QueueAddresses } from './contract.ts';
import { createDeviceQueue } from './device-queue.ts';
import { createDeviceRig, type DeviceRig, rawRingAddresses } from './testing.ts';

const table = (rig: DeviceRig): bigint => rig.payload + 0x8000n;

describe('hostile driver: what the mapper says', () => {
  it('case 9 §2.7.5.2 total length over 2^32 - 1', () => {
    const rig = createDeviceRig();
    const whole = rig.region.size;
    const memory = new AnyMemory(rig);
    const made = createDeviceQueue({ ...memory.options(8), features: { indirect: false, eventIdx: false } });
    if (!made.ok) throw new Error(made.violation.message);
    rig.driver.makeAvailable(
      rig.driver.chain(0, { address: rig.base, size: 0xffff_ffff }, { address: rig.base, size: 1 }),
    );
    expect(made.queue.pop()).toBeUndefined();
    expect(made.queue.violation).toMatchObject({
      section: '2.7.5.2',
      message: expect.stringContaining('0x100000000'),
    });
    expect(memory.mapped).toBe(0);
    rig.driver.ring.setDescriptor(0, { address: rig.base, size: whole });
    rig.driver.makeAvailable(0);
    expect(rig.queue.pop()).toMatchObject({ readableSize: whole });
  });

  it('case 9 a chain of 2^32 - 1 bytes passes the length check', () => {
    const rig = createDeviceRig();
    const memory = new AnyMemory(rig);
    const made = createDeviceQueue({ ...memory.options(8), features: { indirect: false, eventIdx: false } });
    if (!made.ok) throw new Error(made.violation.message);
    rig.driver.makeAvailable(
      rig.driver.chain(
        0,
        { address: rig.base, size: 0xffff_fffe },
        { address: rig.base, size: 1, flags: WRITE },
      ),
    );
    expect(made.queue.pop()).toMatchObject({ readableSize: 0xffff_fffe, writableSize: 1 });
  });

  it('case 11 names what the mapper said: no grant, or a read-only one', () => {
    const answers: [DmaStatus, string][] = [
      [DMA_FAULT_GRANT, 'not a usable grant'],
      [DMA_FAULT_READONLY, 'read-only'],
    ];
    for (const [status, words] of answers) {
      const rig = createDeviceRig();
      const memory = new AnyMemory(rig, status);
      const made = createDeviceQueue({
        ...memory.options(8),
        features: { indirect: false, eventIdx: false },
      });
      if (!made.ok) throw new Error(made.violation.message);
      rig.driver.makeAvailable(rig.driver.chain(0, { address: rig.payload, size: 4, flags: WRITE }));
      expect(made.queue.pop()).toBeUndefined();
      expect(made.queue.violation?.message).toContain(words);
    }
  });
});

describe('hostile driver: double fetch', () => {
  it('case 34 every word of a chain is read exactly once, in the table of descriptors and in an indirect one', () => {
    const rig = createDeviceRig();
    const reads = new Map<number, number>();
    const counted = new Proxy(rig.region.u32, {
      get: (target, key) => {
        const index = Number(key);
        reads.set(index, (reads.get(index) ?? 0) + 1);
        return target[index];
      },
    });
    const region = { ...rig.region, u32: counted };
    const identity = new IdentityDeviceMemory([{ guestAddress: rig.base, region }]);
    const { addresses } = rig.driver.ring;
    const made = createDeviceQueue({
      addresses,
      memory: identity,
      features: { indirect: true, eventIdx: false },
    });
    if (!made.ok) throw new Error(made.violation.message);
    const named = rig.driver.table(
      table(rig),
      { address: rig.payload, size: 4 },
      { address: rig.payload, size: 4, flags: WRITE },
    );
    rig.driver.makeAvailable(
      rig.driver.chain(0, { address: rig.payload, size: 4 }, { address: rig.payload, size: 4 }, named),
    );
    expect(made.queue.pop()).toMatchObject({ descriptorCount: 4 });
    expect(reads.size).toBe(5 * 4);
    expect([...new Set(reads.values())]).toEqual([1]);
  });

  it('case 34 descriptors and indices rewritten while the chain is mapped change nothing', () => {
    const rig = createDeviceRig();
    const memory = new AnyMemory(rig);
    memory.onMap = () => {
      for (let i = 0; i < 8; i++)
        rig.driver.ring.setDescriptor(i, { address: 1n, size: 99, flags: NEXT, next: 7 });
      rig.driver.ring.setAvailableEntry(0, 5);
      rig.driver.ring.availIdx = 0x4000;
    };
    const made = createDeviceQueue({ ...memory.options(8), features: { indirect: false, eventIdx: false } });
    if (!made.ok) throw new Error(made.violation.message);
    rig.driver.makeAvailable(rig.driver.chain(2, { address: rig.payload, size: 4, flags: WRITE }));
    const chain = made.queue.pop()!;
    expect(chain).toMatchObject({ head: 2, writableSize: 4, descriptorCount: 1 });
    made.queue.push(chain, 4);
    made.queue.publish();
    expect(rig.driver.ring.usedEntry(0)).toEqual({ id: 2, size: 4 });
  });
});

/** Maps anything as one segment at 0, or answers a fault; ring areas as the rig has them. */
class AnyMemory implements DeviceMemory {
  mapped = 0;
  onMap: () => void = () => {};
  readonly #rig: DeviceRig;
  readonly #status: DmaStatus;

  constructor(rig: DeviceRig, status: DmaStatus = DMA_OK) {
    this.#rig = rig;
    this.#status = status;
  }

  get regions(): readonly MemoryRegion[] {
    return this.#rig.memory.regions;
  }

  options(size: number): { addresses: QueueAddresses; memory: AnyMemory } {
    return {
      addresses: rawRingAddresses(size, this.#rig.driver.ring.addresses.descriptorArea),
      memory: this,
    };
  }

  map(_low: number, _high: number, size: number, _writable: boolean, into: SegmentList): DmaStatus {
    this.onMap();
    if (this.#status !== DMA_OK) return this.#status;
    into.push(0, 0, size, -1);
    this.mapped++;
    return DMA_OK;
  }

  unmap(_list: SegmentList, from: number, to: number): void {
    this.mapped -= to - from;
  }

  mapArea(address: bigint, size: number, alignment: number, writable: boolean): MappedArea | DmaStatus {
    return this.#rig.memory.mapArea(address, size, alignment, writable);
  }

  unmapArea(area: MappedArea): void {
    this.#rig.memory.unmapArea(area);
  }
}
