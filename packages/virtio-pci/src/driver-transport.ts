import type { FeatureBits } from '@virtlab/abi/brands';
import { PCI_COMMAND_MASTER } from '@virtlab/abi/pci';
import {
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_RING_RESET,
  featureBit,
  hasFeature,
} from '@virtlab/abi/virtio';
import { VIRTIO_PCI_COMMON_CFG_SIZE_1_2 } from '@virtlab/abi/virtio-pci';
import type { AioContext } from '@virtlab/aio';
import { type DriverTransport, type TransportCapabilities, TransportError } from '@virtlab/virtio';
import type { CallMode, CallRouting } from './call-routing.ts';
import type { VirtioStructures } from './capabilities.ts';
import { CommonRegisters } from './common-registers.ts';
import { readBytes, writeBytes } from './config-bytes.ts';
import type { KickPath } from './doorbells.ts';
import { GoneTeller } from './gone-teller.ts';
import { type Kick, KickWriter } from './kick-writer.ts';
import type { PciDevice } from './pci-device.ts';
import { ResetWait } from './reset-wait.ts';
import { VectorAssignment } from './vector-assignment.ts';

type QueueAddresses = Parameters<DriverTransport['enableQueue']>[1];

export interface DriverTransportParts {
  readonly device: PciDevice;
  readonly deviceType: number;
  readonly queueCount: number;
  readonly structures: VirtioStructures;
  readonly routing: CallRouting;
  readonly aio: AioContext;
  readonly kicks: KickPath | undefined;
  readonly resetTimeoutMs: number;
}

/** What `connectVirtioPci` gives: a `DriverTransport` that also tells how its calls arrive. */
export interface VirtioPciDriverTransport extends DriverTransport {
  readonly callMode: CallMode;
}

/** No status has all bits: bit 5 is reserved (§2.1). */
const STATUS_NONSENSE = 0xff;

/** Drives the registers of §4.1.4.3 in the order of Linux' virtio_pci_modern. */
export class PciDriverTransport implements VirtioPciDriverTransport {
  readonly deviceType: number;

  readonly #device: PciDevice;
  readonly #structures: VirtioStructures;
  readonly #common: CommonRegisters;
  readonly #routing: CallRouting;
  readonly #vectors: VectorAssignment;
  readonly #kickWriter: KickWriter;
  readonly #resetWait: ResetWait;
  /** By queue, made when first needed. */
  readonly #queueResetWaits = new Map<number, ResetWait>();
  readonly #aio: AioContext;
  readonly #resetTimeoutMs: number;
  readonly #goneTeller: GoneTeller;
  readonly #removalWatch: Disposable;
  /** Set up since the last reset: how to kick each queue. */
  readonly #kickOf: (Kick | undefined)[];
  readonly #hasQueueReset: boolean;
  #queueCount: number;
  #isClosed = false;

  /** Throws `TransportError` `ENODEV`. */
  constructor(parts: DriverTransportParts) {
    const { device, aio, structures, resetTimeoutMs } = parts;
    this.deviceType = parts.deviceType;
    this.#queueCount = parts.queueCount;
    this.#device = device;
    this.#structures = structures;
    this.#common = new CommonRegisters(device, structures.common.address);
    this.#hasQueueReset =
      structures.common.size >= VIRTIO_PCI_COMMON_CFG_SIZE_1_2 &&
      hasFeature(this.#common.readDeviceFeatures(), VIRTIO_F_RING_RESET);
    this.#routing = parts.routing;
    this.#vectors = new VectorAssignment(device, parts.routing, {
      tryConfigVector: (vector) => this.#common.tryVector('config_msix_vector', vector),
      tryQueueVector: (queue, vector) => {
        this.#common.write('queue_select', queue);
        return this.#common.tryVector('queue_msix_vector', vector);
      },
    });
    this.#kickWriter = new KickWriter(device.access, structures.notify, parts.kicks);
    this.#kickOf = Array.from({ length: parts.queueCount });
    this.#resetWait = new ResetWait(aio, () => this.#common.read('device_status'), resetTimeoutMs);
    this.#aio = aio;
    this.#resetTimeoutMs = resetTimeoutMs;
    this.#goneTeller = new GoneTeller(aio);
    this.#removalWatch = device.access.watchRemoval(device.bdf, () =>
      device.markGone('The device was removed'),
    );
  }

  get capabilities(): TransportCapabilities {
    return {
      name: 'pci',
      queueReset: this.#hasQueueReset,
      configWrite: this.#structures.device !== undefined,
      callPerQueue: this.callMode === 'msix-per-queue',
    };
  }

  get callMode(): CallMode {
    return this.#routing.mode;
  }

  /** What the device says, which may be another number once features are agreed on (QEMU's network card with MQ). */
  get queueCount(): number {
    return this.#queueCount;
  }

  async readDeviceFeatures(): Promise<FeatureBits> {
    this.#begin();
    const features = this.#common.readDeviceFeatures();
    return this.#kickWriter.canCarryData ? features : features & ~featureBit(VIRTIO_F_NOTIFICATION_DATA);
  }

  async writeDriverFeatures(features: FeatureBits): Promise<void> {
    this.#begin();
    this.#common.writeDriverFeatures(features);
    this.#kickWriter.hasData = hasFeature(features, VIRTIO_F_NOTIFICATION_DATA);
    this.#device.requirePresent();
  }

  async readStatus(): Promise<number> {
    this.#begin();
    return this.#readStatus();
  }

  async writeStatus(status: number): Promise<void> {
    this.#begin();
    if (status === 0) {
      await this.#reset();
      return;
    }
    if ((status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0) this.#vectors.assignConfig();
    this.#common.write('device_status', status);
    this.#device.requirePresent();
    const justAgreed = VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
    if ((status & justAgreed) === VIRTIO_CONFIG_S_FEATURES_OK) this.#countQueues();
  }

  async readQueueSizeMax(queue: number): Promise<number> {
    this.#begin();
    return this.#hasQueue(queue) ? this.#readOfQueue(queue, 'queue_size') : 0;
  }

  /** `EIO` when the device does not enable the queue; `EPROTO` when its kick address is outside the structure. */
  async enableQueue(queue: number, addresses: QueueAddresses): Promise<void> {
    this.#begin();
    if (!this.#hasQueue(queue)) throw new RangeError(`No queue ${queue}`);
    this.#vectors.assignConfig();
    this.#common.write('queue_select', queue);
    this.#common.write('queue_size', addresses.size);
    this.#common.writeWide('queue_desc', addresses.descriptorArea);
    this.#common.writeWide('queue_driver', addresses.driverArea);
    this.#common.writeWide('queue_device', addresses.deviceArea);
    this.#kickOf[queue] = this.#kickWriter.kickOf(queue, this.#common.read('queue_notify_off'));
    this.#vectors.assignQueue(queue);
    this.#common.write('queue_select', queue);
    this.#common.write('queue_enable', 1);
    if (this.#common.read('queue_enable') !== 1) {
      this.#kickOf[queue] = undefined;
      throw new TransportError('EIO', `The device refused queue ${queue}`);
    }
  }

  /** §2.6.1.2: kicks stop, then the device is asked, and is believed once queue_reset and queue_enable read 0. */
  async resetQueue(queue: number): Promise<void> {
    this.#begin();
    if (!this.#hasQueue(queue)) throw new RangeError(`No queue ${queue}`);
    if (!this.#hasQueueReset) throw new TransportError('ENOTSUP', 'The device resets no queue alone');
    this.#kickOf[queue] = undefined;
    this.#vectors.forgetQueue(queue);
    this.#common.write('queue_select', queue);
    this.#common.write('queue_reset', 1);
    await this.#queueResetWait(queue).untilZero();
    this.#begin();
    if (this.#readOfQueue(queue, 'queue_enable') !== 0) {
      throw new TransportError('EIO', `The device does not reset queue ${queue}`);
    }
  }

  async readConfigBytes(offset: number, out: Uint8Array): Promise<void> {
    this.#begin();
    const base = this.#configBase(offset, out.length);
    readBytes((at, width) => this.#device.read(base + at, width), offset, out);
  }

  async readConfigGeneration(): Promise<number> {
    this.#begin();
    return this.#common.read('config_generation');
  }

  async writeConfigBytes(offset: number, bytes: Uint8Array): Promise<void> {
    this.#begin();
    const base = this.#configBase(offset, bytes.length);
    writeBytes((at, width, value) => this.#device.write(base + at, width, value), offset, bytes);
    this.#device.requirePresent();
  }

  kick(queue: number, data: number = 0): void {
    this.#kickOf[queue]?.(data);
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
    this.#abortWaits(reason);
    if (this.#isClosed) return;
    this.#kickOf.fill(undefined);
    this.#goneTeller.gone(reason);
  }

  /**
   * Resets the device if it is there, takes bus mastering away so that it reaches no memory whatever it does, and
   * frees interrupts. Never rejects for what the device does.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      if (!this.#device.isGone) await this.#reset();
    } catch (error) {
      if (!(error instanceof TransportError)) throw error;
    } finally {
      this.#device.changeCommand(0, PCI_COMMAND_MASTER);
      this.#kickOf.fill(undefined);
      this.#routing[Symbol.dispose]();
      this.#removalWatch[Symbol.dispose]();
      for (const wait of this.#waits()) wait[Symbol.dispose]();
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

  /** Vectors are handed out by queue, and none is yet. */
  #countQueues(): void {
    const count = this.#common.read('num_queues');
    if (count === this.#queueCount) return;
    this.#queueCount = count;
    this.#kickOf.length = count;
    this.#routing.setQueueCount(count);
  }

  #waits(): ResetWait[] {
    return [this.#resetWait, ...this.#queueResetWaits.values()];
  }

  #queueResetWait(queue: number): ResetWait {
    const read = (): number => this.#readOfQueue(queue, 'queue_reset');
    const wait = this.#queueResetWaits.get(queue) ?? new ResetWait(this.#aio, read, this.#resetTimeoutMs);
    this.#queueResetWaits.set(queue, wait);
    return wait;
  }

  #abortWaits(reason: string): void {
    const error = new TransportError('ENODEV', reason);
    for (const wait of this.#waits()) wait.abort(error);
  }

  #readOfQueue(queue: number, register: 'queue_size' | 'queue_enable' | 'queue_reset'): number {
    this.#common.write('queue_select', queue);
    return this.#common.read(register);
  }

  #readStatus(): number {
    const status = this.#common.read('device_status');
    if (status === STATUS_NONSENSE) throw new TransportError('EIO', 'The device status reads as all ones');
    return status;
  }

  /** §4.1.4.3.2: after writing 0 the driver MUST wait for a read of 0. Vectors do not survive. */
  async #reset(): Promise<void> {
    this.#kickOf.fill(undefined);
    this.#kickWriter.hasData = false;
    this.#vectors.forget();
    this.#common.write('device_status', 0);
    await this.#resetWait.untilZero();
  }

  /** A device whose structure is shorter than its driver's configuration is broken, or absent: `EPROTO`. */
  #configBase(offset: number, size: number): number {
    if (!Number.isInteger(offset) || offset < 0) throw new RangeError(`Configuration offset ${offset}`);
    const { device } = this.#structures;
    if (device === undefined || offset + size > device.size) {
      const end = offset + size;
      throw new TransportError('EPROTO', `Configuration has ${device?.size ?? 0} bytes, not ${end}`);
    }
    return device.address;
  }
}
