import { VIRTIO_PCI_CFG_CAP } from '@virtlab/abi/virtio-pci';
import type { MemoryBar } from './base-address.ts';
import type { PciAccess } from './pci-access.ts';
import type { AccessWidth } from './pci-function.ts';

/** Addresses that stand for places in BARs; no processor has physical addresses of more than 52 bits. */
const WINDOW_SPACE = 2 ** 52;
/** Of one BAR: `offset` of the window is 32 bits. */
const WINDOW_BAR_SIZE = 2 ** 32;

/** The BARs as the window shows them: all of them, placed or not, at addresses that only `windowAccess` knows. */
export function windowBars(bars: readonly MemoryBar[]): MemoryBar[] {
  return bars.map(({ index, size, is64Bit }) => ({
    index,
    is64Bit,
    size: Math.min(size, WINDOW_BAR_SIZE),
    address: WINDOW_SPACE + index * WINDOW_BAR_SIZE,
  }));
}

/**
 * A bus on which the BARs of one function are reached through its PCI_CFG capability at `capability` (§4.1.4.9): four
 * accesses to configuration space in place of one to memory, for who cannot place BARs or map them. Everything else is
 * as on `access`. The window must be nobody else's meanwhile.
 */
export function windowAccess(access: PciAccess, bdf: number, capability: number): PciAccess {
  const { offset: field } = VIRTIO_PCI_CFG_CAP;
  const data = capability + field.pci_cfg_data;
  const aim = (address: number, width: AccessWidth): void => {
    const place = address - WINDOW_SPACE;
    access.configWrite(bdf, capability + field.bar, 1, Math.floor(place / WINDOW_BAR_SIZE));
    access.configWrite(bdf, capability + field.offset, 4, place % WINDOW_BAR_SIZE);
    access.configWrite(bdf, capability + field.length, 4, width);
  };
  return {
    configRead: (function_, offset, width) => access.configRead(function_, offset, width),
    configWrite: (function_, offset, width, value) => access.configWrite(function_, offset, width, value),
    memoryRead: (address, width) => {
      if (address < WINDOW_SPACE) return access.memoryRead(address, width);
      aim(address, width);
      return access.configRead(bdf, data, width);
    },
    memoryWrite: (address, width, value) => {
      if (address < WINDOW_SPACE) {
        access.memoryWrite(address, width, value);
        return;
      }
      aim(address, width);
      access.configWrite(bdf, data, width, value);
    },
    memoryRead64: (address) => access.memoryRead64(address),
    memoryWrite64: (address, value) => access.memoryWrite64(address, value),
    portRead: (port, width) => access.portRead(port, width),
    portWrite: (port, width, value) => access.portWrite(port, width, value),
    watchRemoval: (function_, onRemoved) => access.watchRemoval(function_, onRemoved),
  };
}
