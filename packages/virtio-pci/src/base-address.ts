import {
  PCI_BASE_ADDRESS_IO_MASK,
  PCI_BASE_ADDRESS_MEM_MASK,
  PCI_BASE_ADDRESS_MEM_TYPE_64,
  PCI_BASE_ADDRESS_MEM_TYPE_MASK,
  PCI_BASE_ADDRESS_SPACE,
  PCI_BASE_ADDRESS_SPACE_IO,
  PCI_COMMAND,
  PCI_COMMAND_IO,
  PCI_COMMAND_MEMORY,
  PCI_STD_NUM_BARS,
} from '@virtlab/abi/pci';
import { barOffset } from './config-space.ts';
import type { PciAccess } from './pci-access.ts';

/** A memory BAR as the driver's side found it. */
export interface MemoryBar {
  readonly index: number;
  /** Bytes; a power of two. */
  readonly size: number;
  readonly is64Bit: boolean;
  /** Where it was placed; 0 if nowhere yet, or where no access can reach. */
  readonly address: number;
}

const ALL_ONES = 0xffff_ffff;
const UNREACHABLE = 2n ** 53n;

/**
 * Sizes the memory BARs of a function (PCI §6.2.5.1): writes all ones, looks which bits stuck, and restores. The
 * function does not decode meanwhile. I/O BARs, absent ones and nonsense are left out.
 */
export function readMemoryBars(access: PciAccess, bdf: number): MemoryBar[] {
  const command = access.configRead(bdf, PCI_COMMAND, 2);
  access.configWrite(bdf, PCI_COMMAND, 2, command & ~(PCI_COMMAND_MEMORY | PCI_COMMAND_IO));
  const bars: MemoryBar[] = [];
  for (let index = 0; index < PCI_STD_NUM_BARS; index++) {
    const low = sizeRegister(access, bdf, index);
    if ((low.original & PCI_BASE_ADDRESS_SPACE) === PCI_BASE_ADDRESS_SPACE_IO) continue;
    const is64Bit = (low.original & PCI_BASE_ADDRESS_MEM_TYPE_MASK) === PCI_BASE_ADDRESS_MEM_TYPE_64;
    let address = BigInt((low.original & PCI_BASE_ADDRESS_MEM_MASK) >>> 0);
    let mask = BigInt((low.mask & PCI_BASE_ADDRESS_MEM_MASK) >>> 0);
    if (is64Bit) {
      if (index + 1 === PCI_STD_NUM_BARS) break;
      const high = sizeRegister(access, bdf, index + 1);
      address |= BigInt(high.original) << 32n;
      mask |= BigInt(high.mask) << 32n;
    }
    const size = sizeOf(mask, is64Bit ? 64 : 32);
    if (size !== undefined) {
      bars.push({
        index,
        size: Number(size),
        is64Bit,
        address: address + size <= UNREACHABLE ? Number(address) : 0,
      });
    }
    if (is64Bit) index++;
  }
  access.configWrite(bdf, PCI_COMMAND, 2, command);
  return bars;
}

/** Bytes of an I/O BAR; undefined where there is none. The function does not decode meanwhile. */
export function sizeIoBar(access: PciAccess, bdf: number, index: number): number | undefined {
  const command = access.configRead(bdf, PCI_COMMAND, 2);
  access.configWrite(bdf, PCI_COMMAND, 2, command & ~(PCI_COMMAND_MEMORY | PCI_COMMAND_IO));
  const { original, mask } = sizeRegister(access, bdf, index);
  access.configWrite(bdf, PCI_COMMAND, 2, command);
  if ((original & PCI_BASE_ADDRESS_SPACE) !== PCI_BASE_ADDRESS_SPACE_IO) return undefined;
  const size = sizeOf(BigInt((mask & PCI_BASE_ADDRESS_IO_MASK) >>> 0), 32);
  return size === undefined ? undefined : Number(size);
}

/** Writes the address of an I/O BAR, likewise. */
export function placeIoBar(access: PciAccess, bdf: number, index: number, port: number): void {
  access.configWrite(bdf, barOffset(index), 4, port);
}

/** Writes the address of a BAR. The function should not decode memory while this happens. */
export function placeBar(access: PciAccess, bdf: number, bar: MemoryBar, address: number): void {
  access.configWrite(bdf, barOffset(bar.index), 4, address % 2 ** 32);
  if (bar.is64Bit) access.configWrite(bdf, barOffset(bar.index + 1), 4, Math.floor(address / 2 ** 32));
}

interface SizedRegister {
  readonly original: number;
  readonly mask: number;
}

function sizeRegister(access: PciAccess, bdf: number, index: number): SizedRegister {
  const offset = barOffset(index);
  const original = access.configRead(bdf, offset, 4);
  access.configWrite(bdf, offset, 4, ALL_ONES);
  const mask = access.configRead(bdf, offset, 4);
  access.configWrite(bdf, offset, 4, original);
  return { original, mask };
}

/** Undefined unless the address bits are one run up to the top, of a size that an access can span. */
function sizeOf(mask: bigint, bits: number): bigint | undefined {
  const size = BigInt.asUintN(bits, -mask);
  if (mask === 0n || (size & (size - 1n)) !== 0n || size >= UNREACHABLE) return undefined;
  return size;
}
