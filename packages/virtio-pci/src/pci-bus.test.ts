import { describe, expect, it } from 'vitest';
import {
  PCI_COMMAND,
  PCI_COMMAND_IO,
  PCI_COMMAND_MEMORY,
  PCI_HEADER_TYPE,
  PCI_HEADER_TYPE_MULTI_FUNCTION,
  PCI_VENDOR_ID,
} from '@virtlab/abi/pci';
import { VIRTIO_PCI_COMMON_CFG } from '@virtlab/abi/virtio-pci';
import { readMemoryBars } from './base-address.ts';
import { barOffset } from './config-space.ts';
import { assignBars, enumeratePci } from './enumerate.ts';
import { type PciAccess, formatBdf, pciBdf } from './pci-access.ts';
import { createPciBus } from './pci-bus.ts';
import { FunctionFixture, MODERN_BAR, MSIX_BAR } from './testing/function-fixture.ts';

const window = { base: 0xe000_0000, size: 0x1000_0000 };

function busWith(...slots: readonly number[]) {
  const bus = createPciBus();
  const fixtures = new Map(slots.map((slot) => [slot, new FunctionFixture()]));
  for (const [slot, { pciFunction }] of fixtures) bus.add(slot, pciFunction);
  return { bus, fixtures };
}

function enableMemory(access: PciAccess, bdf: number): void {
  access.configWrite(bdf, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
}

describe('enumeration', () => {
  it('PCI §6.1 finds the functions of bus 0 and what they are', () => {
    const { bus } = busWith(3, 31);
    expect(enumeratePci(bus)).toEqual(
      [3, 31].map((slot) => ({
        bdf: pciBdf(slot),
        vendorId: 0x1af4,
        deviceId: 0x1044,
        revisionId: 1,
        classCode: 0x00ff,
        headerType: 0,
        subsystemVendorId: 0x1af4,
        subsystemId: 0x44,
      })),
    );
    expect(formatBdf(pciBdf(31))).toBe('00:1f.0');
  });

  it('PCI §6.2.1 asks functions 1 to 7 only where the header says there are several', () => {
    const { bus } = busWith(2);
    const several: PciAccess = {
      configRead: (bdf, offset, width) => {
        const value = bus.configRead(bdf & ~7, offset, width);
        return offset === PCI_HEADER_TYPE && bdf >> 3 === 2 ? value | PCI_HEADER_TYPE_MULTI_FUNCTION : value;
      },
      configWrite: () => undefined,
      memoryRead: () => 0,
      memoryWrite: () => undefined,
      memoryRead64: () => 0n,
      memoryWrite64: () => undefined,
      portRead: () => 0,
      portWrite: () => undefined,
      watchRemoval: () => ({ [Symbol.dispose]: () => undefined }),
    };
    expect(enumeratePci(bus)).toHaveLength(1);
    expect(enumeratePci(several).map(({ bdf }) => bdf)).toEqual([16, 17, 18, 19, 20, 21, 22, 23]);
    expect(enumeratePci(several)[0]!.headerType).toBe(0);
  });

  it('an empty bus has nobody on it', () => {
    expect(enumeratePci(createPciBus())).toEqual([]);
  });
});

describe('BAR assignment (PCI §6.2.5.1)', () => {
  it('sizes BARs, places them aligned and apart, and leaves decoding off', () => {
    const { bus } = busWith(1, 2);
    const placed = assignBars(bus, window);
    expect(placed).toEqual([
      { bdf: 8, bar: 4, size: 0x4000, address: 0xe000_0000 },
      { bdf: 16, bar: 4, size: 0x4000, address: 0xe000_4000 },
      { bdf: 8, bar: 1, size: 0x1000, address: 0xe000_8000 },
      { bdf: 16, bar: 1, size: 0x1000, address: 0xe000_9000 },
    ]);
    expect(bus.configRead(8, PCI_COMMAND, 2)).toBe(0);
    expect(readMemoryBars(bus, 16)).toEqual([
      { index: 1, size: 0x1000, is64Bit: false, address: 0xe000_9000 },
      { index: 4, size: 0x4000, is64Bit: true, address: 0xe000_4000 },
    ]);
  });

  it('64-bit BARs may lie above 4 GiB; 32-bit ones that then have no room stay unplaced', () => {
    const { bus, fixtures } = busWith(1);
    const base = 0x12_3400_0000;
    expect(assignBars(bus, { base, size: 0x10_0000 })).toEqual([
      { bdf: 8, bar: MODERN_BAR, size: 0x4000, address: base },
      { bdf: 8, bar: MSIX_BAR, size: 0x1000, address: undefined },
    ]);
    enableMemory(bus, 8);
    bus.memoryWrite(base + 20, 1, 7);
    expect(fixtures.get(1)!.model.statusWrites).toEqual([7]);
  });

  it('a window that is full leaves the rest unplaced', () => {
    const { bus } = busWith(1, 2);
    const unplaced = assignBars(bus, { base: 0xe000_0000, size: 0x9000 }).filter(
      ({ address }) => address === undefined,
    );
    expect(unplaced).toEqual([{ bdf: 16, bar: 1, size: 0x1000, address: undefined }]);
  });

  it.each([
    { base: 0, size: 4096 },
    { base: 2 ** 53, size: 4096 },
  ])('window %o is refused', (bad) => {
    expect(() => assignBars(createPciBus(), bad)).toThrow(RangeError);
  });
});

describe('routing', () => {
  it('memory accesses reach the BAR at their address, once memory decoding is on', () => {
    const { bus, fixtures } = busWith(1, 2);
    assignBars(bus, window);
    bus.memoryWrite(0xe000_4000 + 20, 1, 1);
    expect(bus.memoryRead(0xe000_4000 + 18, 2)).toBe(0xffff);
    enableMemory(bus, 16);
    bus.memoryWrite(0xe000_4000 + 20, 1, 3);
    bus.memoryWrite(0xe000_0000 + 20, 1, 5);
    expect(fixtures.get(2)!.model.statusWrites).toEqual([3]);
    expect(fixtures.get(1)!.model.statusWrites).toEqual([]);
    expect(bus.memoryRead(0xe000_4000 + 18, 2)).toBe(2);
  });

  it('a BAR that moves is found at its new place only', () => {
    const { bus } = busWith(1);
    assignBars(bus, window);
    enableMemory(bus, 8);
    bus.configWrite(8, barOffset(4), 4, 0xf000_0000);
    expect(bus.memoryRead(0xe000_0000 + 18, 2)).toBe(0xffff);
    expect(bus.memoryRead(0xf000_0000 + 18, 2)).toBe(2);
    expect(bus.resolve(0xf000_3004)).toEqual({ bdf: 8, bar: 4, offset: 0x3004 });
  });

  it('an access that reaches beyond a BAR is nobody’s', () => {
    const { bus } = busWith(1);
    assignBars(bus, window);
    enableMemory(bus, 8);
    expect(bus.memoryRead(0xe000_3fff, 2)).toBe(0xffff);
    expect(bus.memoryRead(0xdfff_ffff, 2)).toBe(0xffff);
    expect(bus.resolve(0xe001_0000)).toBeUndefined();
  });

  it('a BAR that was never placed does not decode at 0', () => {
    const { bus } = busWith(1);
    enableMemory(bus, 8);
    expect(bus.memoryRead(18, 2)).toBe(0xffff);
  });

  it('other buses, slots and functions read all ones', () => {
    const { bus } = busWith(1);
    for (const bdf of [0, 9, 15, 16, 0x108, 0xffff, -8]) {
      bus.configWrite(bdf, PCI_COMMAND, 2, 0xffff);
      expect(bus.configRead(bdf, PCI_VENDOR_ID, 4)).toBe(0xffff_ffff);
    }
  });

  it('§4.1.3.1 an access of 8 bytes is one trap and reaches the halves of a 64-bit register; others refuse it', () => {
    const { bus, fixtures } = busWith(1);
    assignBars(bus, window);
    enableMemory(bus, 8);
    const { queue_desc, queue_select, device_status } = VIRTIO_PCI_COMMON_CFG.offset;
    bus.memoryWrite64(0xe000_0000 + queue_desc, 0xfedc_ba98_7654_3210n);
    expect(bus.memoryRead64(0xe000_0000 + queue_desc)).toBe(0xfedc_ba98_7654_3210n);
    expect(bus.memoryRead(0xe000_0000 + queue_desc + 4, 4)).toBe(0xfedc_ba98);
    const before = bus.statistics.memoryAccesses;
    bus.memoryWrite64(0xe000_0000 + queue_select, 0xffff_ffff_ffff_ffffn);
    bus.memoryWrite64(0xe000_0000 + device_status, 0x0fn);
    expect(bus.memoryRead64(0xe000_0000 + device_status)).toBe(2n ** 64n - 1n);
    expect(bus.memoryRead64(0xe000_0000 + queue_desc + 2)).toBe(2n ** 64n - 1n);
    expect(bus.statistics.memoryAccesses).toBe(before + 4);
    expect(fixtures.get(1)!.model.statusWrites).toEqual([]);
  });

  it('I/O BARs decode at their ports, once I/O decoding is on', () => {
    const bus = createPciBus();
    const { pciFunction, model } = new FunctionFixture({ interfaceKind: 'transitional' });
    bus.add(1, pciFunction);
    expect(assignBars(bus, window, { base: 0xc000, size: 0x1000 }).at(-1)).toEqual({
      bdf: 8,
      bar: 0,
      size: 64,
      address: 0xc000,
    });
    bus.portWrite(0xc012, 1, 1);
    expect(bus.portRead(0xc00c, 2)).toBe(0xffff);
    bus.configWrite(8, PCI_COMMAND, 2, PCI_COMMAND_IO);
    bus.portWrite(0xc012, 1, 1);
    bus.memoryWrite(0xc012, 1, 3);
    expect([bus.portRead(0xc00c, 2), model.statusWrites]).toEqual([256, [1]]);
    expect(bus.statistics.portAccesses).toBe(4);
    bus.configWrite(8, 0x10, 4, 0);
    expect(bus.portRead(12, 2)).toBe(0xffff);
  });

  it('every access is a trap and is counted', () => {
    const { bus } = busWith(1);
    enableMemory(bus, 8);
    bus.configRead(200, 0, 4);
    bus.memoryRead(0, 4);
    bus.memoryWrite(0, 4, 0);
    bus.memoryWrite(0xe000_0000, 4, 0);
    expect(bus.statistics).toEqual({ configAccesses: 2, memoryAccesses: 3, portAccesses: 0 });
  });
});

describe('hot removal', () => {
  it('a removed function reads all ones everywhere and its watchers are told once', () => {
    const { bus, fixtures } = busWith(1);
    assignBars(bus, window);
    enableMemory(bus, 8);
    let told = 0;
    bus.watchRemoval(8, () => void told++);
    bus.watchRemoval(8, () => void told++)[Symbol.dispose]();
    expect(bus.remove(1)).toBe(fixtures.get(1)!.pciFunction);
    expect(bus.remove(1)).toBeUndefined();
    expect(told).toBe(1);
    expect(bus.configRead(8, PCI_VENDOR_ID, 2)).toBe(0xffff);
    expect(bus.memoryRead(0xe000_0000 + 18, 2)).toBe(0xffff);
  });

  it('slots take one function each', () => {
    const { bus } = busWith(1);
    const { pciFunction } = new FunctionFixture();
    expect(() => bus.add(1, pciFunction)).toThrow(RangeError);
    expect(() => bus.add(32, pciFunction)).toThrow(RangeError);
    bus.remove(1);
    bus.add(1, pciFunction);
    expect(enumeratePci(bus)).toHaveLength(1);
  });
});
