import {
  PCI_BASE_ADDRESS_IO_MASK,
  PCI_BASE_ADDRESS_SPACE,
  PCI_BASE_ADDRESS_SPACE_IO,
} from '@virtlab/abi/pci';
import { VIRTIO_PCI_CONFIG_OFF, VIRTIO_PCI_QUEUE_NUM, VIRTIO_PCI_QUEUE_SEL } from '@virtlab/abi/virtio-pci';
import { TransportError } from '@virtlab/virtio';
import { sizeIoBar } from './base-address.ts';
import { barOffset } from './config-space.ts';
import { LEGACY_BAR } from './function-layout.ts';
import type { PciDevice } from './pci-device.ts';
import { type AccessWidth, allOnes } from './pci-function.ts';

/** The driver's side of the legacy registers: I/O ports of BAR 0 (§4.1.4.10). */
export class LegacyPorts {
  /** Bytes of the BAR. */
  readonly size: number;
  readonly #device: PciDevice;
  readonly #base: number;

  /** Throws `TransportError` `EPROTO` when BAR 0 is no placed I/O BAR that has room for the registers. */
  constructor(device: PciDevice) {
    const { access, bdf } = device;
    const register = access.configRead(bdf, barOffset(LEGACY_BAR), 4);
    const base = (register & PCI_BASE_ADDRESS_IO_MASK) >>> 0;
    const isIo = (register & PCI_BASE_ADDRESS_SPACE) === PCI_BASE_ADDRESS_SPACE_IO;
    const size = isIo ? sizeIoBar(access, bdf, LEGACY_BAR) : undefined;
    if (base === 0 || size === undefined || size < VIRTIO_PCI_CONFIG_OFF(true) || base + size > PORT_COUNT) {
      throw new TransportError('EPROTO', 'The device has no usable legacy registers in BAR 0');
    }
    this.size = size;
    this.#device = device;
    this.#base = base;
  }

  /** Throws `TransportError` `ENODEV` when the function is gone. */
  read(offset: number, width: AccessWidth): number {
    const value = this.#device.access.portRead(this.#base + offset, width);
    if (value === allOnes(width)) this.#device.requirePresent();
    return value;
  }

  /** As `read`, but answers all ones. */
  readQuietly(offset: number, width: AccessWidth): number {
    return this.#device.access.portRead(this.#base + offset, width);
  }

  /** Lost if the function is not there. */
  write(offset: number, width: AccessWidth, value: number): void {
    this.#device.access.portWrite(this.#base + offset, width, value);
  }

  /** Writes a vector register and answers whether it reads back (§4.1.5.1.2). */
  tryVector(offset: number, vector: number): boolean {
    this.write(offset, 2, vector);
    return this.read(offset, 2) === vector;
  }

  /** 0 for a queue that does not exist. */
  queueSize(queue: number): number {
    this.write(VIRTIO_PCI_QUEUE_SEL, 2, queue);
    return this.read(VIRTIO_PCI_QUEUE_NUM, 2);
  }

  /** The registers do not tell how many queues there are: those before the first that does not exist. */
  countQueues(): number {
    let count = 0;
    while (count < QUEUE_COUNT_MAX && this.queueSize(count) !== 0) count += 1;
    return count;
  }
}

const PORT_COUNT = 0x1_0000;
/** As QEMU's VIRTIO_QUEUE_MAX; a device that answers for ever is not believed for longer. */
const QUEUE_COUNT_MAX = 1024;
