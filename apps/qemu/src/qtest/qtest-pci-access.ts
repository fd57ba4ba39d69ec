import { PCI_CFG_SPACE_SIZE, PCI_VENDOR_ID } from '@virtlab/abi/pci';
import {
  PCI_CONFIG_ADDRESS_PORT,
  PCI_CONFIG_BDF_SHIFT,
  PCI_CONFIG_DATA_PORT,
  PCI_CONFIG_ENABLE,
  PCI_CONFIG_REGISTER_MASK,
} from '@virtlab/abi/pc-chipset';
import type { AccessWidth, PciAccess } from '@virtlab/virtio-pci';
import { QemuError } from './qemu-error.ts';
import type { QtestConnection } from './qtest-connection.ts';

/** As in qtest's `inb`, `inw`, `inl`. */
const SUFFIX: Readonly<Record<AccessWidth, string>> = { 1: 'b', 2: 'w', 4: 'l' };
const NOBODY = 0xffff;

interface RemovalWatch {
  readonly bdf: number;
  readonly onRemoved: () => void;
}

/**
 * The accesses of a processor, made by qtest: configuration space by mechanism #1, memory and ports as they are. Each read
 * is a round trip to QEMU; writes are posted, and are before any later read.
 *
 * Once QEMU has ended, reads are all ones. As long as it runs, what it reads where nothing is is its own answer (0 in memory).
 */
export class QtestPciAccess implements PciAccess {
  readonly #qtest: QtestConnection;
  readonly #watches = new Set<RemovalWatch>();

  constructor(qtest: QtestConnection) {
    this.#qtest = qtest;
  }

  configRead(bdf: number, offset: number, width: AccessWidth): number {
    if (offset >= PCI_CFG_SPACE_SIZE) return ones(width);
    let value = 0;
    this.#qtest.batch(() => {
      this.#aim(bdf, offset);
      value = this.portRead(dataPort(offset), width);
    });
    return value;
  }

  configWrite(bdf: number, offset: number, width: AccessWidth, value: number): void {
    if (offset >= PCI_CFG_SPACE_SIZE) return;
    this.#qtest.batch(() => {
      this.#aim(bdf, offset);
      this.portWrite(dataPort(offset), width, value);
    });
  }

  memoryRead(address: number, width: AccessWidth): number {
    return Number(this.#read(`read${SUFFIX[width]} ${hex(address)}`, width));
  }
  memoryWrite(address: number, width: AccessWidth, value: number): void {
    this.#qtest.post(`write${SUFFIX[width]} ${hex(address)} ${hex(value)}`);
  }
  memoryRead64(address: number): bigint {
    return this.#read(`readq ${hex(address)}`, 8);
  }
  memoryWrite64(address: number, value: bigint): void {
    this.#qtest.post(`writeq ${hex(address)} ${hex(value)}`);
  }

  portRead(port: number, width: AccessWidth): number {
    return Number(this.#read(`in${SUFFIX[width]} ${hex(port)}`, width));
  }
  portWrite(port: number, width: AccessWidth, value: number): void {
    this.#qtest.post(`out${SUFFIX[width]} ${hex(port)} ${hex(value)}`);
  }

  watchRemoval(bdf: number, onRemoved: () => void): Disposable {
    const watch = { bdf, onRemoved };
    this.#watches.add(watch);
    return { [Symbol.dispose]: () => void this.#watches.delete(watch) };
  }

  /** Some function has left, or QEMU has: tells those who watch the ones that do not answer any more. */
  noticeRemovals(): void {
    for (const watch of this.#watches) {
      if (this.configRead(watch.bdf, PCI_VENDOR_ID, 2) !== NOBODY) continue;
      this.#watches.delete(watch);
      watch.onRemoved();
    }
  }

  #aim(bdf: number, offset: number): void {
    const register = offset & PCI_CONFIG_REGISTER_MASK;
    const address = (PCI_CONFIG_ENABLE | (bdf << PCI_CONFIG_BDF_SHIFT) | register) >>> 0;
    this.portWrite(PCI_CONFIG_ADDRESS_PORT, 4, address);
  }

  /** Unsigned. */
  #read(command: string, width: number): bigint {
    try {
      return BigInt.asUintN(width * 8, BigInt(this.#qtest.ask(command)));
    } catch (error) {
      if (error instanceof QemuError && this.#qtest.failure !== undefined)
        return (1n << BigInt(width * 8)) - 1n;
      throw error;
    }
  }
}

function ones(width: AccessWidth): number {
  return 2 ** (8 * width) - 1;
}

function dataPort(offset: number): number {
  return PCI_CONFIG_DATA_PORT + (offset & ~PCI_CONFIG_REGISTER_MASK);
}

function hex(value: number | bigint): string {
  return `0x${value.toString(16)}`;
}
