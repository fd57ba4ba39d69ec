import type { PciAccess } from '../pci-access.ts';
import type { AccessWidth } from '../pci-function.ts';

/** What stands between a driver and its device; each hook sees the true value and answers what the driver gets. */
export interface Tampering {
  configRead?(offset: number, width: AccessWidth, value: number): number;
  memoryRead?(address: number, width: AccessWidth, value: number): number;
  portRead?(port: number, width: AccessWidth, value: number): number;
  /** True swallows the write. */
  memoryWrite?(address: number, width: AccessWidth, value: number): boolean;
}

/** A bus that does not always say the truth: the driver's view of a broken or hostile device. Hooks may change. */
export function tamperedAccess(access: PciAccess, tampering: Tampering): PciAccess {
  return {
    configRead: (bdf, offset, width) => {
      const value = access.configRead(bdf, offset, width);
      return tampering.configRead?.(offset, width, value) ?? value;
    },
    configWrite: (bdf, offset, width, value) => access.configWrite(bdf, offset, width, value),
    memoryRead: (address, width) => {
      const value = access.memoryRead(address, width);
      return tampering.memoryRead?.(address, width, value) ?? value;
    },
    memoryWrite: (address, width, value) => {
      if (tampering.memoryWrite?.(address, width, value) !== true) access.memoryWrite(address, width, value);
    },
    memoryRead64: (address) => access.memoryRead64(address),
    memoryWrite64: (address, value) => access.memoryWrite64(address, value),
    portRead: (port, width) => {
      const value = access.portRead(port, width);
      return tampering.portRead?.(port, width, value) ?? value;
    },
    portWrite: (port, width, value) => access.portWrite(port, width, value),
    watchRemoval: (bdf, onRemoved) => access.watchRemoval(bdf, onRemoved),
  };
}
