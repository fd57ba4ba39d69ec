import type { FeatureBits } from '@virtlab/abi/brands';
import { PCI_COMMAND_MASTER } from '@virtlab/abi/pci';
import { VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK } from '@virtlab/abi/virtio';
import {
  VIRTIO_MSI_CONFIG_VECTOR,
  VIRTIO_MSI_QUEUE_VECTOR,
  VIRTIO_PCI_CONFIG_OFF,
  VIRTIO_PCI_GUEST_FEATURES,
  VIRTIO_PCI_HOST_FEATURES,
  VIRTIO_PCI_QUEUE_ADDR_SHIFT,
  VIRTIO_PCI_QUEUE_NOTIFY,
  VIRTIO_PCI_QUEUE_PFN,
  VIRTIO_PCI_QUEUE_SEL,
  VIRTIO_PCI_STATUS,
} from '@virtlab/abi/virtio-pci';
import type { AioContext } from '@virtlab/aio';
import { type DriverTransport, type TransportCapabilities, TransportError } from '@virtlab/virtio';
import type { CallMode, CallRouting } from './call-routing.ts';
import { readBytes, writeBytes } from './config-bytes.ts';
import type { VirtioPciDriverTransport } from './driver-transport.ts';
import { GoneTeller } from './gone-teller.ts';
import type { LegacyPorts } from './legacy-ports.ts';
import { legacyQueueAddresses } from './legacy-queue.ts';
import type { PciDevice } from './pci-device.ts';
import { ResetWait } from './reset-wait.ts';
import { VectorAssignment } from './vector-assignment.ts';

type QueueAddresses = Parameters<DriverTransport['enableQueue']>[1];

export interface LegacyTransportParts {
  readonly device: PciDevice;
  readonly deviceType: number;
  readonly queueCount: number;
  readonly ports: LegacyPorts;
  readonly routing: CallRouting;
  readonly aio: AioContext;
  readonly resetTimeoutMs: number;
}

const STATUS_NONSENSE = 0xff;
const LEGACY_FEATURES: FeatureBits = 0xffff_ffffn;
/** Without a generation, configuration is what two reads in a row agree on (§2.5.4); this often is tried. */
const CONFIG_READ_COUNT_MAX = 16;

/**
 * Drives the legacy registers of a transitional or legacy device (§4.1.4.10), in the order of Linux' virtio_pci_legacy. What
 * the interface lacks is made up here: FEATURES_OK is this side's own, set when the device kept all bits; configuration has
 * no generation, so it is read until it stands still.
 */
export class LegacyDriverTransport implements VirtioPciDriverTransport {
  readonly deviceType: number;
  readonly queueCount: number;
  readonly #device: PciDevice;
  readonly #ports: LegacyPorts;
  readonly #routing: CallRouting;
  readonly #vectors: VectorAssignment;
  readonly #resetWait: ResetWait;
  readonly #goneTeller: GoneTeller;
  readonly #removalWatch: Disposable;
  readonly #isEnabled: Uint8Array;
  #features: FeatureBits = 0n;
  #isFeaturesOk = false;
  #isClosed = false;

  constructor(parts: LegacyTransportParts) {
    const { device, aio, ports } = parts;
    this.deviceType = parts.deviceType;
    this.queueCount = parts.queueCount;
    this.#device = device;
    this.#ports = ports;
    this.#routing = parts.routing;
    this.#isEnabled = new Uint8Array(parts.queueCount);
    this.#vectors = new VectorAssignment(device, parts.routing, {
      tryConfigVector: (vector) => ports.tryVector(VIRTIO_MSI_CONFIG_VECTOR, vector),
      tryQueueVector: (queue, vector) => {
        ports.write(VIRTIO_PCI_QUEUE_SEL, 2, queue);
        return ports.tryVector(VIRTIO_MSI_QUEUE_VECTOR, vector);
      },
    });
    this.#resetWait = new ResetWait(aio, () => ports.read(VIRTIO_PCI_STATUS, 1), parts.resetTimeoutMs);
    this.#goneTeller = new GoneTeller(aio);
    this.#removalWatch = device.access.watchRemoval(device.bdf, () =>
      device.markGone('The device was removed'),
    );
  }

  get capabilities(): TransportCapabilities {
    return {
      name: 'pci-legacy',
      queueReset: false,
      configWrite: true,
      callPerQueue: this.callMode === 'msix-per-queue',
      legacy: true,
    };
  }

  get callMode(): CallMode {
    return this.#routing.mode;
  }

  async readDeviceFeatures(): Promise<FeatureBits> {
    this.#begin();
    return BigInt(this.#ports.read(VIRTIO_PCI_HOST_FEATURES, 4));
  }

  async writeDriverFeatures(features: FeatureBits): Promise<void> {
    this.#begin();
    if (this.#isFeaturesOk) return;
    this.#features = features;
    this.#ports.write(VIRTIO_PCI_GUEST_FEATURES, 4, Number(features & LEGACY_FEATURES));
    this.#device.requirePresent();
  }

  async readStatus(): Promise<number> {
    this.#begin();
    const status = this.#ports.read(VIRTIO_PCI_STATUS, 1);
    if (status === STATUS_NONSENSE) throw new TransportError('EIO', 'The device status reads as all ones');
    return this.#isFeaturesOk ? status | VIRTIO_CONFIG_S_FEATURES_OK : status;
  }

  async writeStatus(status: number): Promise<void> {
    this.#begin();
    if (status === 0) {
      await this.#reset();
      return;
    }
    if ((status & VIRTIO_CONFIG_S_FEATURES_OK) !== 0) this.#isFeaturesOk ||= this.#areFeaturesKept();
    if ((status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0) this.#vectors.assignConfig();
    this.#ports.write(VIRTIO_PCI_STATUS, 1, status & ~VIRTIO_CONFIG_S_FEATURES_OK);
    this.#device.requirePresent();
  }

  async readQueueSizeMax(queue: number): Promise<number> {
    this.#begin();
    return this.#hasQueue(queue) ? this.#ports.queueSize(queue) : 0;
  }

  /** `ENOTSUP` for a queue that is not laid out as legacy devices need it; `EIO` when the device does not enable it. */
  async enableQueue(queue: number, addresses: QueueAddresses): Promise<void> {
    this.#begin();
    if (!this.#hasQueue(queue)) throw new RangeError(`No queue ${queue}`);
    const ports = this.#ports;
    const pageNumber = pageNumberOf(addresses, ports.queueSize(queue));
    this.#vectors.assignQueue(queue);
    ports.write(VIRTIO_PCI_QUEUE_SEL, 2, queue);
    ports.write(VIRTIO_PCI_QUEUE_PFN, 4, pageNumber);
    if (ports.read(VIRTIO_PCI_QUEUE_PFN, 4) !== pageNumber) {
      this.#vectors.forgetQueue(queue);
      throw new TransportError('EIO', `The device refused queue ${queue}`);
    }
    this.#isEnabled[queue] = 1;
  }

  async resetQueue(): Promise<void> {
    throw new TransportError('ENOTSUP', 'A legacy device resets no queue alone');
  }

  async readConfigBytes(offset: number, out: Uint8Array): Promise<void> {
    this.#begin();
    const base = this.#configBase(offset, out.length);
    const read = (into: Uint8Array): void =>
      readBytes((at, width) => this.#ports.read(base + at, width), offset, into);
    const before = new Uint8Array(out.length);
    read(out);
    for (let count = 1; count < CONFIG_READ_COUNT_MAX; count++) {
      before.set(out);
      read(out);
      if (out.every((byte, at) => byte === before[at])) return;
    }
    throw new TransportError('EIO', 'The configuration does not stand still');
  }

  /** There is none: what `readConfigBytes` gives is consistent. */
  async readConfigGeneration(): Promise<number> {
    this.#begin();
    return 0;
  }

  async writeConfigBytes(offset: number, bytes: Uint8Array): Promise<void> {
    this.#begin();
    const base = this.#configBase(offset, bytes.length);
    writeBytes((at, width, value) => this.#ports.write(base + at, width, value), offset, bytes);
    this.#device.requirePresent();
  }

  kick(queue: number): void {
    if (this.#isEnabled[queue] === 1) this.#ports.write(VIRTIO_PCI_QUEUE_NOTIFY, 2, queue);
  }

  onCall(queue: number, handler: (() => void) | undefined): void {
    if (!this.#hasQueue(queue)) throw new RangeError(`No queue ${queue}`);
    this.#routing.setQueueHandler(queue, handler);
  }

  onConfigChange(handler: (() => void) | undefined): void {
    this.#routing.configHandler = handler;
  }

  onGone(handler: ((reason: string) => void) | undefined): void {
    this.#goneTeller.onGone(handler);
  }

  /** The function was found missing or removed. */
  gone(reason: string): void {
    this.#resetWait.abort(new TransportError('ENODEV', reason));
    if (this.#isClosed) return;
    this.#isEnabled.fill(0);
    this.#goneTeller.gone(reason);
  }

  /** As that of the modern transport. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      if (!this.#device.isGone) await this.#reset();
    } catch (error) {
      if (!(error instanceof TransportError)) throw error;
    } finally {
      this.#device.changeCommand(0, PCI_COMMAND_MASTER);
      this.#isEnabled.fill(0);
      this.#routing[Symbol.dispose]();
      this.#removalWatch[Symbol.dispose]();
      this.#resetWait[Symbol.dispose]();
      this.#goneTeller[Symbol.dispose]();
    }
  }

  #begin(): void {
    if (this.#isClosed) throw new TransportError('ENODEV', 'The transport is closed');
    if (this.#device.isGone) this.#device.requirePresent();
  }

  #hasQueue(queue: number): boolean {
    return Number.isInteger(queue) && queue >= 0 && queue < this.queueCount;
  }

  /** Legacy devices drop bits that they did not offer instead of refusing them. */
  #areFeaturesKept(): boolean {
    return BigInt(this.#ports.read(VIRTIO_PCI_GUEST_FEATURES, 4)) === this.#features;
  }

  async #reset(): Promise<void> {
    this.#isEnabled.fill(0);
    this.#vectors.forget();
    this.#features = 0n;
    this.#isFeaturesOk = false;
    this.#ports.write(VIRTIO_PCI_STATUS, 1, 0);
    await this.#resetWait.untilZero();
  }

  /** Device configuration moves by the two vector registers when MSI-X is enabled. */
  #configBase(offset: number, size: number): number {
    if (!Number.isInteger(offset) || offset < 0) throw new RangeError(`Configuration offset ${offset}`);
    const base = VIRTIO_PCI_CONFIG_OFF(this.callMode !== 'intx');
    if (base + offset + size <= this.#ports.size) return base;
    throw new TransportError(
      'EPROTO',
      `Configuration has ${this.#ports.size - base} bytes, not ${offset + size}`,
    );
  }
}

/** §2.7.2, §4.1.5.1.3.1: all areas follow from the page of the first. */
function pageNumberOf(addresses: QueueAddresses, deviceSize: number): number {
  const { size, descriptorArea } = addresses;
  const pageNumber = descriptorArea >> BigInt(VIRTIO_PCI_QUEUE_ADDR_SHIFT);
  const expected = legacyQueueAddresses(pageNumber << BigInt(VIRTIO_PCI_QUEUE_ADDR_SHIFT), deviceSize);
  const isLegacy =
    pageNumber > 0n &&
    pageNumber <= LEGACY_FEATURES &&
    size === expected.size &&
    descriptorArea === expected.descriptorArea &&
    addresses.driverArea === expected.driverArea &&
    addresses.deviceArea === expected.deviceArea;
  if (isLegacy) return Number(pageNumber);
  throw new TransportError('ENOTSUP', `A queue of ${size} is not laid out as legacy devices need it`);
}
