import {
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
} from '@virtlab/abi/virtio';
import {
  VIRTIO_MSI_CONFIG_VECTOR,
  VIRTIO_MSI_NO_VECTOR,
  VIRTIO_MSI_QUEUE_VECTOR,
  VIRTIO_PCI_CONFIG_OFF,
  VIRTIO_PCI_GUEST_FEATURES,
  VIRTIO_PCI_HOST_FEATURES,
  VIRTIO_PCI_ISR,
  VIRTIO_PCI_QUEUE_ADDR_SHIFT,
  VIRTIO_PCI_QUEUE_NOTIFY,
  VIRTIO_PCI_QUEUE_NUM,
  VIRTIO_PCI_QUEUE_PFN,
  VIRTIO_PCI_QUEUE_SEL,
  VIRTIO_PCI_STATUS,
} from '@virtlab/abi/virtio-pci';
import type { DeviceModel } from '@virtlab/virtio';
import { legacyQueueAddresses } from './legacy-queue.ts';
import { type AccessWidth, allOnes } from './pci-function.ts';

/** What the registers of both interfaces share: vectors, interrupt status, device configuration, kicks, the reset. */
export interface LegacyRegistersShared {
  readonly model: DeviceModel;
  isMsixEnabled(): boolean;
  /** `queue` or the configuration changes: `VIRTIO_MSI_NO_VECTOR` where there is none. */
  vector(queue: number | 'config'): number;
  setVector(queue: number | 'config', vector: number): void;
  takeIsr(): number;
  kick(queue: number): void;
  /** After a write of 0 to the status. */
  reset(): void;
  readConfig(offset: number, width: AccessWidth): number;
  writeConfig(offset: number, width: AccessWidth, value: number): void;
}

/** A legacy driver sees the first 32 bits. */
const FEATURE_MASK = 0xffff_ffffn;

interface LegacyRegister {
  readonly width: AccessWidth;
  read(registers: LegacyRegisters): number;
  write?(registers: LegacyRegisters, value: number): void;
}

/** §4.1.4.10, by byte offset; the two vectors are there while MSI-X is enabled. */
const registers: ReadonlyMap<number, LegacyRegister> = new Map<number, LegacyRegister>([
  [VIRTIO_PCI_HOST_FEATURES, { width: 4, read: (r) => r.deviceFeatures }],
  [VIRTIO_PCI_GUEST_FEATURES, { width: 4, read: (r) => r.driverFeatures, write: (r, v) => r.accept(v) }],
  [VIRTIO_PCI_QUEUE_PFN, { width: 4, read: (r) => r.pageNumber, write: (r, v) => r.setPageNumber(v) }],
  [VIRTIO_PCI_QUEUE_NUM, { width: 2, read: (r) => r.queueSize }],
  [VIRTIO_PCI_QUEUE_SEL, { width: 2, read: (r) => r.queueSelect, write: (r, v) => void (r.queueSelect = v) }],
  [VIRTIO_PCI_QUEUE_NOTIFY, { width: 2, read: () => 0, write: (r, v) => r.kick(v) }],
  [VIRTIO_PCI_STATUS, { width: 1, read: (r) => r.status, write: (r, v) => r.writeStatus(v) }],
  [VIRTIO_PCI_ISR, { width: 1, read: (r) => r.takeIsr() }],
]);
const vectorRegisters: ReadonlyMap<number, LegacyRegister> = new Map<number, LegacyRegister>([
  [
    VIRTIO_MSI_CONFIG_VECTOR,
    { width: 2, read: (r) => r.vector('config'), write: (r, v) => r.setVector('config', v) },
  ],
  [
    VIRTIO_MSI_QUEUE_VECTOR,
    { width: 2, read: (r) => r.vector('queue'), write: (r, v) => r.setVector('queue', v) },
  ],
]);

/**
 * The registers of the legacy interface in I/O space (§4.1.4.10), in front of the same device model as the modern ones. A
 * legacy driver knows no FEATURES_OK: its features are judged when it first sets a queue up or sets DRIVER_OK, and the bit is
 * not shown to it. Fields are little-endian, the native order of the domains here.
 *
 * A driver that began by the modern interface is not disturbed: until a reset, writes here do nothing but reset.
 */
export class LegacyRegisters {
  queueSelect = 0;
  readonly #shared: LegacyRegistersShared;
  readonly #pageNumbers: Uint32Array;

  constructor(shared: LegacyRegistersShared) {
    this.#shared = shared;
    this.#pageNumbers = new Uint32Array(shared.model.queueCount);
  }

  read(offset: number, width: AccessWidth): number {
    const configOffset = VIRTIO_PCI_CONFIG_OFF(this.#shared.isMsixEnabled());
    if (offset >= configOffset) return this.#shared.readConfig(offset - configOffset, width);
    const register = this.#registerAt(offset);
    return register?.width === width ? register.read(this) : allOnes(width);
  }

  write(offset: number, width: AccessWidth, value: number): void {
    const configOffset = VIRTIO_PCI_CONFIG_OFF(this.#shared.isMsixEnabled());
    if (offset >= configOffset) {
      if (this.#isOurs()) this.#shared.writeConfig(offset - configOffset, width, value);
      return;
    }
    const register = this.#registerAt(offset);
    if (register?.width === width) register.write?.(this, value);
  }

  /** As after a reset by either interface. */
  reset(): void {
    this.queueSelect = 0;
    this.#pageNumbers.fill(0);
  }

  // The registers.

  get deviceFeatures(): number {
    return Number(this.#shared.model.deviceFeatures & FEATURE_MASK);
  }
  get driverFeatures(): number {
    return Number(this.#shared.model.driverFeatures & FEATURE_MASK);
  }
  /** Bits that are not offered are not accepted, as QEMU masks them: a legacy driver cannot be refused. */
  accept(features: number): void {
    const { model } = this.#shared;
    if (this.#isOurs()) model.writeDriverFeatures(BigInt(features) & model.deviceFeatures & FEATURE_MASK);
  }

  get queueSize(): number {
    return this.#shared.model.queueSizeMax(this.queueSelect);
  }
  get pageNumber(): number {
    const queue = this.queueSelect;
    return this.#shared.model.isQueueEnabled(queue) ? this.#pageNumbers[queue]! : 0;
  }
  /** Where the queue is, all of it; 0 takes the whole device back, as QEMU does. */
  setPageNumber(pageNumber: number): void {
    const { model } = this.#shared;
    const queue = this.queueSelect;
    if (pageNumber === 0) {
      if (this.#isOurs()) this.writeStatus(0);
      return;
    }
    if (!this.#isOurs() || this.queueSize === 0 || model.isQueueEnabled(queue)) return;
    if ((model.status & VIRTIO_CONFIG_S_DRIVER) === 0 || !this.#judge()) return;
    this.#pageNumbers[queue] = pageNumber;
    const base = BigInt(pageNumber) << BigInt(VIRTIO_PCI_QUEUE_ADDR_SHIFT);
    model.enableQueue(queue, legacyQueueAddresses(base, this.queueSize));
  }

  kick(queue: number): void {
    if (this.#isOurs() && queue < this.#shared.model.queueCount) this.#shared.kick(queue);
  }

  get status(): number {
    return this.#shared.model.status & ~VIRTIO_CONFIG_S_FEATURES_OK;
  }
  writeStatus(status: number): void {
    const { model } = this.#shared;
    if (status === 0) {
      model.writeStatus(0);
      this.#shared.reset();
      return;
    }
    if (!this.#isOurs()) return;
    const steps = status & ~VIRTIO_CONFIG_S_FEATURES_OK;
    model.writeStatus(steps & ~VIRTIO_CONFIG_S_DRIVER_OK);
    if ((steps & VIRTIO_CONFIG_S_DRIVER_OK) !== 0 && this.#judge()) model.writeStatus(steps);
  }

  takeIsr(): number {
    return this.#shared.takeIsr();
  }

  vector(of: 'config' | 'queue'): number {
    if (of === 'queue' && this.queueSize === 0) return VIRTIO_MSI_NO_VECTOR;
    return this.#shared.vector(of === 'config' ? of : this.queueSelect);
  }
  setVector(of: 'config' | 'queue', vector: number): void {
    if (!this.#isOurs() || (of === 'queue' && this.queueSize === 0)) return;
    this.#shared.setVector(of === 'config' ? of : this.queueSelect, vector);
  }

  #registerAt(offset: number): LegacyRegister | undefined {
    return registers.get(offset) ?? (this.#shared.isMsixEnabled() ? vectorRegisters.get(offset) : undefined);
  }

  #isOurs(): boolean {
    return this.#shared.model.useLegacy?.() === true;
  }

  /** FEATURES_OK on the driver's behalf; a set that the device cannot work with is said by NEEDS_RESET. */
  #judge(): boolean {
    const { model } = this.#shared;
    if ((model.status & VIRTIO_CONFIG_S_FEATURES_OK) !== 0) return true;
    model.writeStatus(model.status | VIRTIO_CONFIG_S_FEATURES_OK);
    if ((model.status & VIRTIO_CONFIG_S_FEATURES_OK) !== 0) return true;
    model.refuse({
      section: '2.2.3',
      message: 'The device cannot work with the features of a legacy driver',
    });
    return false;
  }
}
