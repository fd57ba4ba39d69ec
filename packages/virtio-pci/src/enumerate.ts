import {
  PCI_CLASS_DEVICE,
  PCI_COMMAND,
  PCI_COMMAND_IO,
  PCI_COMMAND_MEMORY,
  PCI_DEVICE_ID,
  PCI_HEADER_TYPE,
  PCI_HEADER_TYPE_MASK,
  PCI_HEADER_TYPE_MULTI_FUNCTION,
  PCI_HEADER_TYPE_NORMAL,
  PCI_REVISION_ID,
  PCI_STD_NUM_BARS,
  PCI_SUBSYSTEM_ID,
  PCI_SUBSYSTEM_VENDOR_ID,
  PCI_VENDOR_ID,
} from '@virtlab/abi/pci';
import { type MemoryBar, placeBar, placeIoBar, readMemoryBars, sizeIoBar } from './base-address.ts';
import { type PciAccess, PCI_FUNCTION_COUNT, PCI_SLOT_COUNT, pciBdf } from './pci-access.ts';

/** What a function says about itself (PCI §6.2.1). */
export interface PciFunctionInfo {
  readonly bdf: number;
  readonly vendorId: number;
  readonly deviceId: number;
  readonly revisionId: number;
  /** Class and subclass. */
  readonly classCode: number;
  /** Without the multi-function bit; only type 0 functions have BARs and subsystem ids as read here. */
  readonly headerType: number;
  readonly subsystemVendorId: number;
  readonly subsystemId: number;
}

/** Vendor ids that mean that nothing answered (PCI §6.1; 0 is what some broken bridges return). */
const NOBODY: readonly number[] = [0xffff, 0x0000];

/** Scans bus 0. Functions 1–7 are asked only where function 0 says that there are several (PCI §6.2.1). */
export function enumeratePci(access: PciAccess): PciFunctionInfo[] {
  const found: PciFunctionInfo[] = [];
  for (let slot = 0; slot < PCI_SLOT_COUNT; slot++) {
    const first = describe(access, pciBdf(slot));
    if (first === undefined) continue;
    found.push(first);
    if ((access.configRead(first.bdf, PCI_HEADER_TYPE, 1) & PCI_HEADER_TYPE_MULTI_FUNCTION) === 0) continue;
    for (let number = 1; number < PCI_FUNCTION_COUNT; number++) {
      const next = describe(access, pciBdf(slot, number));
      if (next !== undefined) found.push(next);
    }
  }
  return found;
}

function describe(access: PciAccess, bdf: number): PciFunctionInfo | undefined {
  const vendorId = access.configRead(bdf, PCI_VENDOR_ID, 2);
  if (NOBODY.includes(vendorId)) return undefined;
  return {
    bdf,
    vendorId,
    deviceId: access.configRead(bdf, PCI_DEVICE_ID, 2),
    revisionId: access.configRead(bdf, PCI_REVISION_ID, 1),
    classCode: access.configRead(bdf, PCI_CLASS_DEVICE, 2),
    headerType: access.configRead(bdf, PCI_HEADER_TYPE, 1) & PCI_HEADER_TYPE_MASK,
    subsystemVendorId: access.configRead(bdf, PCI_SUBSYSTEM_VENDOR_ID, 2),
    subsystemId: access.configRead(bdf, PCI_SUBSYSTEM_ID, 2),
  };
}

/** Addresses or ports that BARs may take. Bytes; must not be 0 and should be clear of RAM. */
export interface MemoryWindow {
  readonly base: number;
  readonly size: number;
}

export interface BarAssignment {
  readonly bdf: number;
  readonly bar: number;
  readonly size: number;
  /** Undefined when the window had no room for it: the BAR stays where it was, and does not decode. */
  readonly address: number | undefined;
}

const LIMIT_32_BIT = 2 ** 32;

/**
 * Firmware's part: sizes and places the memory BARs of every type 0 function on bus 0, largest first, each aligned to
 * its size, and with `ports` the I/O BARs likewise. Functions are left without decoding; their driver turns it on.
 */
export function assignBars(access: PciAccess, window: MemoryWindow, ports?: MemoryWindow): BarAssignment[] {
  if (!(window.base > 0) || !Number.isSafeInteger(window.base + window.size)) {
    throw new RangeError(`PCI window of ${window.size} bytes at ${window.base}`);
  }
  const sized = enumeratePci(access)
    .filter((info) => info.headerType === PCI_HEADER_TYPE_NORMAL)
    .flatMap(({ bdf }) => {
      const command = access.configRead(bdf, PCI_COMMAND, 2);
      access.configWrite(bdf, PCI_COMMAND, 2, command & ~(PCI_COMMAND_MEMORY | PCI_COMMAND_IO));
      return readMemoryBars(access, bdf).map((bar) => ({ bdf, bar }));
    })
    .toSorted((a, b) => b.bar.size - a.bar.size);
  let next = window.base;
  const placed = sized.map(({ bdf, bar }) => {
    const address = fit(bar, next, window);
    if (address !== undefined) {
      placeBar(access, bdf, bar, address);
      next = address + bar.size;
    }
    return { bdf, bar: bar.index, size: bar.size, address };
  });
  return ports === undefined ? placed : [...placed, ...assignPorts(access, ports)];
}

function assignPorts(access: PciAccess, ports: MemoryWindow): BarAssignment[] {
  const indices = Array.from({ length: PCI_STD_NUM_BARS }, (_, index) => index);
  const sized = enumeratePci(access)
    .filter((info) => info.headerType === PCI_HEADER_TYPE_NORMAL)
    .flatMap(({ bdf }) => indices.map((bar) => ({ bdf, bar, size: sizeIoBar(access, bdf, bar) ?? 0 })))
    .filter(({ size }) => size > 0)
    .toSorted((a, b) => b.size - a.size);
  let next = ports.base;
  return sized.map(({ bdf, bar, size }) => {
    const port = Math.ceil(next / size) * size;
    if (port + size > ports.base + ports.size) return { bdf, bar, size, address: undefined };
    placeIoBar(access, bdf, bar, port);
    next = port + size;
    return { bdf, bar, size, address: port };
  });
}

function fit(bar: MemoryBar, from: number, window: MemoryWindow): number | undefined {
  const address = Math.ceil(from / bar.size) * bar.size;
  const limit = bar.is64Bit ? window.base + window.size : Math.min(window.base + window.size, LIMIT_32_BIT);
  return address + bar.size <= limit ? address : undefined;
}
