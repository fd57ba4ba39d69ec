import {
  PCI_BASE_ADDRESS_IO_MASK,
  PCI_BASE_ADDRESS_MEM_MASK,
  PCI_CARDBUS_CIS,
  PCI_COMMAND,
  PCI_COMMAND_IO,
  PCI_COMMAND_MEMORY,
} from '@virtlab/abi/pci';
import { barOffset } from './config-space.ts';
import { type PciAccess, PCI_FUNCTION_COUNT, PCI_SLOT_COUNT, pciBdf } from './pci-access.ts';
import { type AccessWidth, type PciFunction, allOnes } from './pci-function.ts';

/** Where a memory address leads. */
export interface PciLocation {
  readonly bdf: number;
  readonly bar: number;
  /** From the start of the BAR. */
  readonly offset: number;
}

export interface PciBusStatistics {
  /** Traps: what a driver's accesses cost. */
  readonly configAccesses: number;
  readonly memoryAccesses: number;
  readonly portAccesses: number;
}

/** Bus 0 of one domain, with one function in each slot. Routes accesses; owns none of the functions. */
export interface PciBus extends PciAccess {
  readonly statistics: PciBusStatistics;
  /** Throws `RangeError` for a slot that does not exist or is taken. */
  add(slot: number, pciFunction: PciFunction): void;
  /** Surprise removal: from now on the slot reads all ones. The owner disposes of what comes back. */
  remove(slot: number): PciFunction | undefined;
  /** The BAR that decodes the memory address now. */
  resolve(address: number): PciLocation | undefined;
}

const ALL_ONES_64 = 2n ** 64n - 1n;

export function createPciBus(): PciBus {
  return new InProcessPciBus();
}

/** A BAR that decodes: programmed, in a function with its space enabled. */
interface DecodedWindow {
  readonly bdf: number;
  readonly isIo: boolean;
  readonly pciFunction: PciFunction;
  readonly bar: number;
  readonly base: number;
  readonly size: number;
}

class InProcessPciBus implements PciBus {
  readonly statistics = { configAccesses: 0, memoryAccesses: 0, portAccesses: 0 };
  readonly #functions: (PciFunction | undefined)[] = Array.from({ length: PCI_SLOT_COUNT });
  readonly #removalWatchers: Set<() => void>[] = Array.from({ length: PCI_SLOT_COUNT }, () => new Set());
  #windows: readonly DecodedWindow[] = [];
  #windowsStale = false;

  add(slot: number, pciFunction: PciFunction): void {
    pciBdf(slot);
    if (this.#functions[slot] !== undefined) throw new RangeError(`PCI slot ${slot} is taken`);
    this.#functions[slot] = pciFunction;
    this.#windowsStale = true;
  }

  remove(slot: number): PciFunction | undefined {
    const pciFunction = this.#functions[slot];
    if (pciFunction === undefined) return undefined;
    this.#functions[slot] = undefined;
    this.#windowsStale = true;
    const watchers = this.#removalWatchers[slot]!;
    const called = [...watchers];
    watchers.clear();
    for (const onRemoved of called) onRemoved();
    return pciFunction;
  }

  configRead(bdf: number, offset: number, width: AccessWidth): number {
    this.statistics.configAccesses++;
    return this.#functionAt(bdf)?.configRead(offset, width) ?? allOnes(width);
  }

  configWrite(bdf: number, offset: number, width: AccessWidth, value: number): void {
    this.statistics.configAccesses++;
    this.#functionAt(bdf)?.configWrite(offset, width, value);
    if (offset < PCI_CARDBUS_CIS && offset + width > PCI_COMMAND) this.#windowsStale = true;
  }

  memoryRead(address: number, width: AccessWidth): number {
    this.statistics.memoryAccesses++;
    return this.#read(false, address, width);
  }

  memoryWrite(address: number, width: AccessWidth, value: number): void {
    this.statistics.memoryAccesses++;
    this.#write(false, address, width, value);
  }

  memoryRead64(address: number): bigint {
    this.statistics.memoryAccesses++;
    if (address % 8 !== 0) return ALL_ONES_64;
    const low = this.#read(false, address, 4);
    return (BigInt(this.#read(false, address + 4, 4)) << 32n) | BigInt(low);
  }

  memoryWrite64(address: number, value: bigint): void {
    this.statistics.memoryAccesses++;
    if (address % 8 !== 0) return;
    this.#write(false, address, 4, Number(BigInt.asUintN(32, value)));
    this.#write(false, address + 4, 4, Number(BigInt.asUintN(32, value >> 32n)));
  }

  portRead(port: number, width: AccessWidth): number {
    this.statistics.portAccesses++;
    return this.#read(true, port, width);
  }

  portWrite(port: number, width: AccessWidth, value: number): void {
    this.statistics.portAccesses++;
    this.#write(true, port, width, value);
  }

  watchRemoval(bdf: number, onRemoved: () => void): Disposable {
    const watchers = this.#removalWatchers[bdf / PCI_FUNCTION_COUNT];
    // A function of its own, so that the same handler watched twice is two watches.
    const watcher = (): void => onRemoved();
    watchers?.add(watcher);
    return { [Symbol.dispose]: () => void watchers?.delete(watcher) };
  }

  resolve(address: number): PciLocation | undefined {
    const window = this.#windowAt(false, address, 1);
    return window && { bdf: window.bdf, bar: window.bar, offset: address - window.base };
  }

  #functionAt(bdf: number): PciFunction | undefined {
    return bdf % PCI_FUNCTION_COUNT === 0 ? this.#functions[bdf / PCI_FUNCTION_COUNT] : undefined;
  }

  #read(isIo: boolean, address: number, width: AccessWidth): number {
    const window = this.#windowAt(isIo, address, width);
    if (window === undefined) return allOnes(width);
    return window.pciFunction.barRead(window.bar, address - window.base, width);
  }

  #write(isIo: boolean, address: number, width: AccessWidth, value: number): void {
    const window = this.#windowAt(isIo, address, width);
    window?.pciFunction.barWrite(window.bar, address - window.base, width, value);
  }

  #windowAt(isIo: boolean, address: number, width: AccessWidth): DecodedWindow | undefined {
    if (this.#windowsStale) {
      this.#windowsStale = false;
      this.#windows = this.#functions.flatMap((pciFunction, slot) =>
        pciFunction === undefined ? [] : decode(pciBdf(slot), pciFunction),
      );
    }
    for (const window of this.#windows) {
      if (window.isIo !== isIo) continue;
      if (address >= window.base && address + width <= window.base + window.size) return window;
    }
    return undefined;
  }
}

function decode(bdf: number, pciFunction: PciFunction): DecodedWindow[] {
  const command = pciFunction.configRead(PCI_COMMAND, 2);
  return pciFunction.bars.flatMap(({ index, size, is64Bit, isIo = false }) => {
    if ((command & (isIo ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)) === 0) return [];
    const mask = isIo ? PCI_BASE_ADDRESS_IO_MASK : PCI_BASE_ADDRESS_MEM_MASK;
    const low = (pciFunction.configRead(barOffset(index), 4) & mask) >>> 0;
    const high = is64Bit ? pciFunction.configRead(barOffset(index + 1), 4) : 0;
    const base = high * 2 ** 32 + low;
    // As QEMU: a BAR at 0 was never placed.
    return base === 0 ? [] : [{ bdf, isIo, pciFunction, bar: index, base, size }];
  });
}
