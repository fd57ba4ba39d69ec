import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PCI_CAPABILITY_LIST, PCI_CFG_SPACE_SIZE, PCI_STATUS, PCI_STATUS_CAP_LIST } from '@virtlab/abi/pci';
import { TransportError } from '@virtlab/virtio';
import type { MemoryBar } from './base-address.ts';
import { type MappedStructure, type VirtioStructures, findStructures } from './capabilities.ts';

const BASE = 0xe000_0000;
const bars: readonly MemoryBar[] = [
  { index: 1, size: 0x1000, is64Bit: false, address: 0xd000_0000 },
  { index: 2, size: 0x1000, is64Bit: false, address: 0 },
  { index: 4, size: 0x4000, is64Bit: true, address: BASE },
];

interface Capability {
  readonly at: number;
  readonly next: number;
  readonly id?: number;
  readonly size?: number;
  readonly type?: number;
  readonly bar?: number;
  readonly offset?: number;
  readonly length?: number;
  /** Words behind the 16 bytes. */
  readonly tail?: number;
}

/** The device as it should be: one capability of each kind, in this order. */
const good: readonly Capability[] = [
  { at: 0x40, next: 0x50, type: 1, offset: 0, length: 0x1000 },
  { at: 0x50, next: 0x60, type: 3, offset: 0x1000, length: 0x1000 },
  { at: 0x60, next: 0x70, type: 4, offset: 0x2000, length: 0x1000 },
  { at: 0x70, next: 0, type: 2, size: 20, offset: 0x3000, length: 0x1000, tail: 4 },
];

function parse(
  capabilities: readonly Capability[],
  start: number = capabilities[0]?.at ?? 0,
): VirtioStructures {
  const space = new DataView(new ArrayBuffer(PCI_CFG_SPACE_SIZE));
  space.setUint16(PCI_STATUS, PCI_STATUS_CAP_LIST, true);
  space.setUint8(PCI_CAPABILITY_LIST, start);
  for (const { at, next, id, size, type, bar, offset, length, tail } of capabilities) {
    space.setUint8(at, id ?? 9);
    space.setUint8(at + 1, next);
    space.setUint8(at + 2, size ?? 16);
    space.setUint8(at + 3, type ?? 0);
    if (at + 20 > PCI_CFG_SPACE_SIZE) continue;
    space.setUint8(at + 4, bar ?? 4);
    space.setUint32(at + 8, offset ?? 0, true);
    space.setUint32(at + 12, length ?? 0, true);
    if (tail !== undefined) space.setUint32(at + 16, tail, true);
  }
  return findStructures((offset) => space.getUint32(offset, true), bars);
}

/** `good` with one capability changed. */
function changed(type: number, change: Partial<Capability>): Capability[] {
  return good.map((capability) => (capability.type === type ? { ...capability, ...change } : capability));
}

describe('capability walk (§4.1.4.2)', () => {
  it('§4.1.4 finds the structures and their sizes', () => {
    expect(parse(good)).toEqual({
      common: { address: BASE, size: 0x1000, capabilitySize: 16 },
      isr: { address: BASE + 0x1000, size: 0x1000, capabilitySize: 16 },
      device: { address: BASE + 0x2000, size: 0x1000, capabilitySize: 16 },
      notify: { address: BASE + 0x3000, size: 0x1000, multiplier: 4 },
      msix: undefined,
    });
  });

  it('§4.1.4.2.1 the first usable capability of a type wins', () => {
    const second: Capability = { at: 0x90, next: 0x40, type: 1, offset: 0x800, length: 0x100 };
    expect(parse([second, ...good]).common).toMatchObject({ address: BASE + 0x800, size: 0x100 });
    expect(parse([{ ...second, bar: 3 }, ...good]).common.address).toBe(BASE);
  });

  it.each([
    ['an unknown cfg_type', { type: 200 }],
    ['a vendor-specific cfg_type', { type: 9 }],
    ['a reserved BAR', { type: 1, bar: 6 }],
    ['BAR 255', { type: 1, bar: 255 }],
    ['a BAR that the function lacks', { type: 1, bar: 0 }],
    ['a BAR that was never placed', { type: 1, bar: 2 }],
    ['a cap_len shorter than the structure', { type: 1, size: 15 }],
    ['a cap_len of 0', { type: 1, size: 0 }],
    ['a cap_len that leaves configuration space', { type: 1, size: 255 }],
    ['a misaligned offset', { type: 1, offset: 2 }],
    ['a length too short for its structure', { type: 1, length: 55 }],
    ['a length of 0', { type: 1, length: 0 }],
    ['an offset beyond the BAR', { type: 1, offset: 0x4000 }],
    ['a structure that sticks out of the BAR', { type: 1, offset: 0x3fe0 }],
    ['an offset and length that wrap', { type: 1, offset: 0xffff_fffc, length: 0xffff_ffff }],
    ['another capability id', { type: 1, id: 5 }],
  ])('§4.1.4.2.1 ignores %s and uses the next of the type', (_what, change) => {
    const hostile: Capability = { at: 0x90, next: 0x40, offset: 0x100, length: 0x1000, ...change };
    expect(parse([hostile, ...good]).common.address).toBe(BASE);
  });

  it('a length beyond the BAR is cut to what the BAR has', () => {
    expect(parse(changed(4, { length: 0xffff_ffff })).device?.size).toBe(0x2000);
  });

  it.each([
    [1, 'common configuration'],
    [2, 'notification'],
    [3, 'ISR status'],
  ])('§4.1.4 a device without capability %i is refused: EPROTO', (type, name) => {
    const attempt = (): VirtioStructures => parse(changed(type, { type: 77 }), 0x40);
    expect(attempt).toThrow(TransportError);
    expect(attempt).toThrow(`EPROTO: The device has no usable ${name} capability`);
  });

  it('§4.1.4.6 a device without configuration is fine', () => {
    expect(parse(changed(4, { type: 77 })).device).toBeUndefined();
  });

  it.each([0, 2, 4, 0x1000, 0x8000_0000])('§4.1.4.4.1 the notify multiplier %i is usable', (tail) => {
    expect(parse(changed(2, { tail })).notify.multiplier).toBe(tail);
  });

  it.each([1, 3, 6, 0xffff_ffff])('§4.1.4.4.1 the notify multiplier %i is not', (tail) => {
    expect(() => parse(changed(2, { tail }))).toThrow('EPROTO');
  });

  it('§4.1.4.4.1 a notify capability without room for the multiplier, or at an odd offset, is not usable', () => {
    expect(() => parse(changed(2, { size: 19 }))).toThrow('EPROTO');
    expect(() => parse(changed(2, { offset: 0x3001 }))).toThrow('EPROTO');
  });
});

describe('capability lists that are none', () => {
  it.each([
    ['points to itself', [{ ...good[0]!, next: 0x40 }], 0x40],
    ['closes on its middle', [good[0]!, { ...good[1]!, next: 0x40 }], 0x40],
    ['starts in the header', good, 0x10],
    ['starts nowhere', good, 0],
    ['leaves for the header', [{ ...good[0]!, next: 0x08 }], 0x40],
    [
      'ends in the last bytes',
      [
        { ...good[0]!, next: 0xfc },
        { at: 0xfc, next: 0xfc, type: 1 },
      ],
      0x40,
    ],
  ])('a list that %s ends and the device is refused', (_what, capabilities, start) => {
    expect(() => parse(capabilities, start)).toThrow('EPROTO');
  });

  it('PCI §6.7 the low two bits of pointers are ignored', () => {
    expect(
      parse(
        good.map((capability) => ({ ...capability, next: capability.next && capability.next + 3 })),
        0x41,
      ).isr.address,
    ).toBe(BASE + 0x1000);
  });

  it('PCI §6.2.3 without the list bit in the status there is no list', () => {
    expect(() => findStructures(() => 0, bars)).toThrow('EPROTO');
  });

  it('a device that left reads all ones and is refused', () => {
    expect(() => findStructures(() => 0xffff_ffff, bars)).toThrow('EPROTO');
  });

  it('configuration space is read once: what was checked is what is used', () => {
    const reads = new Map<number, number>();
    expect(() =>
      findStructures((offset) => {
        reads.set(offset, (reads.get(offset) ?? 0) + 1);
        return 0x4040_4040;
      }, bars),
    ).toThrow('EPROTO');
    expect([...reads.values()].every((count) => count === 1)).toBe(true);
  });
});

function parseMsix(flags: number, table: number): VirtioStructures['msix'] {
  const space = new DataView(new ArrayBuffer(PCI_CFG_SPACE_SIZE));
  space.setUint16(PCI_STATUS, PCI_STATUS_CAP_LIST, true);
  space.setUint8(PCI_CAPABILITY_LIST, 0x98);
  space.setUint8(0x98, 0x11);
  space.setUint8(0x99, 0x40);
  space.setUint16(0x9a, flags, true);
  space.setUint32(0x9c, table, true);
  for (const { at, next, type, size, offset, length, tail } of good) {
    [9, next, size ?? 16, type!, 4].forEach((value, index) => space.setUint8(at + index, value));
    space.setUint32(at + 8, offset!, true);
    space.setUint32(at + 12, length!, true);
    if (tail !== undefined) space.setUint32(at + 16, tail, true);
  }
  return findStructures((offset) => space.getUint32(offset, true), bars).msix;
}

describe('MSI-X capability', () => {
  it('PCI §6.8.2 finds the table', () => {
    expect(parseMsix(0x8002, 0x101 & ~6)).toEqual({
      capability: 0x98,
      tableAddress: 0xd000_0100,
      vectorCount: 3,
    });
  });

  it.each([
    ['a reserved BIR', 2, 7],
    ['a BAR that is not placed', 2, 2],
    ['a table longer than the BAR', 0x7ff, 1],
    ['a table that starts beyond it', 0, 0x1001],
  ])('PCI §6.8.2 a capability with %s is no MSI-X', (_what, flags, table) => {
    expect(parseMsix(flags, table)).toBeUndefined();
  });
});

/** None if the device was refused with this code; any other error is a failure. */
function structuresOr(code: TransportError['code'], attempt: () => VirtioStructures): MappedStructure[] {
  try {
    const { common, isr, notify, device } = attempt();
    return [common, isr, notify, ...(device === undefined ? [] : [device])];
  } catch (error) {
    if (error instanceof TransportError && error.code === code) return [];
    throw error;
  }
}

function isInsideBar(start: number, size: number): boolean {
  return bars.some(
    (bar) => bar.address !== 0 && start >= bar.address && start + size <= bar.address + bar.size,
  );
}

describe('any configuration space', () => {
  const space = fc.uint8Array({ minLength: PCI_CFG_SPACE_SIZE, maxLength: PCI_CFG_SPACE_SIZE });
  /** Random bytes alone hardly ever form a list: plant capabilities with random fields into them. */
  const planted = fc.array(
    fc.record({
      at: fc.integer({ min: 0x10, max: 0x3f }).map((slot) => slot * 4),
      next: fc.integer({ min: 0, max: 0x3f }).map((slot) => slot * 4),
      size: fc.constantFrom(0, 15, 16, 20, 24, 255),
      type: fc.integer({ min: 0, max: 6 }),
      bar: fc.constantFrom(0, 1, 2, 4, 6),
      id: fc.constantFrom(9, 9, 9, 0x11),
    }),
    { maxLength: 24 },
  );

  it('ends, and yields structures inside placed BARs or a TransportError', () => {
    fc.assert(
      fc.property(space, planted, fc.boolean(), (bytes, capabilities, plantMandatory) => {
        bytes[PCI_STATUS] = PCI_STATUS_CAP_LIST;
        bytes[PCI_CAPABILITY_LIST] = capabilities[0]?.at ?? 0x40;
        for (const { at, next, size, type, bar, id } of capabilities) {
          bytes.set(
            [id, next, size, plantMandatory ? (type % 3) + 1 : type, bar].slice(0, PCI_CFG_SPACE_SIZE - at),
            at,
          );
        }
        const view = new DataView(bytes.buffer, bytes.byteOffset);
        const structures = structuresOr('EPROTO', () =>
          findStructures((offset) => view.getUint32(offset, true), bars),
        );
        expect(structures.filter(({ address, size }) => !isInsideBar(address, size))).toEqual([]);
      }),
      { numRuns: 500 },
    );
  });
});
