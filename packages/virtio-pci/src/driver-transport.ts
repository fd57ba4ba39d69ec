import type { FeatureBits } from '@virtlab/abi/brands';
import { PCI_COMMAND_MASTER } from '@virtlab/abi/pci';
import { VIRTIO_CONFIG_S_DRIVER_OK } from '@virtlab/abi/virtio';
import type { AioContext, BottomHalf } from '@virtlab/aio';
import { type DriverTransport, type TransportCapabilities, TransportError } from '@virtlab/virtio';
import type { CallMode, CallRouting } from './call-routing.ts';
import type { VirtioStructures } from './capabilities.ts';
import { CommonRegisters } from './common-registers.ts';
import type { KickPath } from './doorbells.ts';
import type { PciDevice } from './pci-device.ts';
import type { AccessWidth } from './pci-function.ts';
import { ResetWait } from './reset-wait.ts';

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

/** Bytes of a kick (§4.1.5.2). */
const KICK_SIZE = 2;
/** No status has all bits: bit 5 is reserved (§2.1). */
const STATUS_NONSENSE = 0xff;

/** Drives the registers of §4.1.4.3 in the order of Linux' virtio_pci_modern. */
export class PciDriverTransport implements VirtioPciDriverTransport {
  readonly deviceType: number;
  readonly queueCount: number;

  readonly #device: PciDevice;
  readonly #structures: VirtioStructures;
  readonly #common: CommonRegisters;
  readonly #routing: CallRouting;
  readonly #kicks: KickPath | undefined;
  readonly #resetWait: ResetWait;
  readonly #goneTeller: BottomHalf;
  readonly #removalWatch: Disposable;
  /** Set up since the last reset: how to kick each queue. */
  readonly #kickOf: ((() => void) | undefined)[];
  #isConfigVectorAssigned = false;
  #goneReason: string | undefined;
  #goneHandler: ((reason: string) => void) | undefined;
  #isClosed = false;

  constructor(parts: DriverTransportParts) {
    const { device, aio } = parts;
    this.deviceType = parts.deviceType;
    this.queueCount = parts.queueCount;
    this.#device = device;
    this.#structures = parts.structures;
    this.#common = new CommonRegisters(device, parts.structures.common.address);
    this.#routing = parts.routing;
    this.#kicks = parts.kicks;
    this.#kickOf = Array.from({ length: parts.queueCount });
    this.#resetWait = new ResetWait(aio, () => this.#common.read('device_status'), parts.resetTimeoutMs);
    this.#goneTeller = aio.createBottomHalf(() => this.#tellGone());
    this.#removalWatch = device.access.watchRemoval(device.bdf, () =>
      device.markGone('The device was removed'),
    );
  }

  get capabilities(): TransportCapabilities {
    return {
      name: 'pci',
      queueReset: false,
      configWrite: this.#structures.device !== undefined,
      callPerQueue: this.callMode === 'msix-per-queue',
    };
  }

  get callMode(): CallMode {
    return this.#routing.mode;
  }

  async readDeviceFeatures(): Promise<FeatureBits> {
    this.#begin();
    return this.#common.readDeviceFeatures();
  }

  async writeDriverFeatures(features: FeatureBits): Promise<void> {
    this.#begin();
    this.#common.writeDriverFeatures(features);
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
    if ((status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0) this.#assignConfigVector();
    this.#common.write('device_status', status);
    this.#device.requirePresent();
  }

  async readQueueSizeMax(queue: number): Promise<number> {
    this.#begin();
    if (!this.#hasQueue(queue)) return 0;
    this.#common.write('queue_select', queue);
    return this.#common.read('queue_size');
  }

  /** `EIO` when the device does not enable the queue; `EPROTO` when its kick address is outside the structure. */
  async enableQueue(queue: number, addresses: QueueAddresses): Promise<void> {
    this.#begin();
    if (!this.#hasQueue(queue)) throw new RangeError(`No queue ${queue}`);
    this.#assignConfigVector();
    this.#common.write('queue_select', queue);
    this.#common.write('queue_size', addresses.size);
    this.#common.writeWide('queue_desc', addresses.descriptorArea);
    this.#common.writeWide('queue_driver', addresses.driverArea);
    this.#common.writeWide('queue_device', addresses.deviceArea);
    const kick = this.#kickPathOf(queue);
    this.#kickOf[queue] = kick;
    if (!this.#tryQueueVector(queue)) this.#degradeAndReassign();
    this.#common.write('queue_select', queue);
    this.#common.write('queue_enable', 1);
    if (this.#common.read('queue_enable') !== 1) {
      this.#kickOf[queue] = undefined;
      throw new TransportError('EIO', `The device refused queue ${queue}`);
    }
  }

  async readConfigBytes(offset: number, out: Uint8Array): Promise<void> {
    this.#begin();
    const base = this.#configAddress(offset, out.length);
    for (let at = 0; at < out.length;) {
      const width = widthAt(offset + at, out.length - at);
      const value = this.#device.read(base + at, width);
      for (let byte = 0; byte < width; byte++) out[at + byte] = value >>> (8 * byte);
      at += width;
    }
  }

  async readConfigGeneration(): Promise<number> {
    this.#begin();
    return this.#common.read('config_generation');
  }

  async writeConfigBytes(offset: number, bytes: Uint8Array): Promise<void> {
    this.#begin();
    const base = this.#configAddress(offset, bytes.length);
    for (let at = 0; at < bytes.length;) {
      const width = widthAt(offset + at, bytes.length - at);
      let value = 0;
      for (let byte = 0; byte < width; byte++) value += bytes[at + byte]! * 2 ** (8 * byte);
      this.#device.write(base + at, width, value);
      at += width;
    }
    this.#device.requirePresent();
  }

  kick(queue: number): void {
    this.#kickOf[queue]?.();
  }

  onCall(queue: number, handler: (() => void) | undefined): void {
    if (!this.#hasQueue(queue)) throw new RangeError(`No queue ${queue}`);
    this.#routing.setQueueHandler(queue, handler);
  }

  onConfigChange(handler: (() => void) | undefined): void {
    this.#routing.configHandler = handler;
  }

  onGone(handler: ((reason: string) => void) | undefined): void {
    this.#goneHandler = handler;
    if (this.#goneReason !== undefined && handler !== undefined) this.#goneTeller.schedule();
  }

  /** The function was found missing or removed: told from the driver's loop, never from inside an operation. */
  gone(reason: string): void {
    this.#resetWait.abort(new TransportError('ENODEV', reason));
    if (this.#isClosed) return;
    this.#goneReason = reason;
    this.#kickOf.fill(undefined);
    this.#goneTeller.schedule();
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
      this.#goneHandler = undefined;
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

  #readStatus(): number {
    const status = this.#common.read('device_status');
    if (status === STATUS_NONSENSE) throw new TransportError('EIO', 'The device status reads as all ones');
    return status;
  }

  /** §4.1.4.3.2: after writing 0 the driver MUST wait for a read of 0. Vectors do not survive. */
  async #reset(): Promise<void> {
    this.#kickOf.fill(undefined);
    this.#isConfigVectorAssigned = false;
    this.#common.write('device_status', 0);
    await this.#resetWait.untilZero();
  }

  /** queue_notify_off × multiplier, inside the structure (§4.1.4.4): asked of the device once. */
  #kickPathOf(queue: number): () => void {
    const { notify } = this.#structures;
    const offset = this.#common.read('queue_notify_off') * notify.multiplier;
    if (offset + KICK_SIZE > notify.size) {
      throw new TransportError(
        'EPROTO',
        `Kick offset ${offset} of queue ${queue} is outside ${notify.size} bytes`,
      );
    }
    const address = notify.address + offset;
    const { access } = this.#device;
    return this.#kicks?.kickFor(address, queue) ?? (() => access.memoryWrite(address, KICK_SIZE, queue));
  }

  #assignConfigVector(): void {
    if (this.#isConfigVectorAssigned) return;
    if (!this.#tryConfigVector()) this.#degradeAndReassign();
    this.#isConfigVectorAssigned = true;
  }

  #tryConfigVector(): boolean {
    return (
      this.callMode === 'intx' || this.#common.tryVector('config_msix_vector', this.#routing.configVector)
    );
  }

  #tryQueueVector(queue: number): boolean {
    if (this.callMode === 'intx') return true;
    this.#common.write('queue_select', queue);
    return this.#common.tryVector('queue_msix_vector', this.#routing.queueVector(queue));
  }

  /** The device could not map a vector: the next mode, for everything that is set up so far. Ends at INTx or throws. */
  #degradeAndReassign(): void {
    do {
      this.#device.requirePresent();
      this.#routing.degrade();
    } while (!this.#tryConfigVector() || !this.#tryVectorsInUse());
  }

  #tryVectorsInUse(): boolean {
    return this.#kickOf.every((kick, queue) => kick === undefined || this.#tryQueueVector(queue));
  }

  /** A device whose structure is shorter than its driver's configuration is broken, or absent: `EPROTO`. */
  #configAddress(offset: number, size: number): number {
    if (!Number.isInteger(offset) || offset < 0) throw new RangeError(`Configuration offset ${offset}`);
    const { device } = this.#structures;
    if (device === undefined || offset + size > device.size) {
      const end = offset + size;
      throw new TransportError('EPROTO', `Configuration has ${device?.size ?? 0} bytes, not ${end}`);
    }
    return device.address + offset;
  }

  #tellGone(): void {
    const reason = this.#goneReason;
    const handler = this.#goneHandler;
    if (reason === undefined || handler === undefined) return;
    this.#goneHandler = undefined;
    handler(reason);
  }
}

/** §4.1.3.1: the widest aligned access that stays inside; drivers ask for whole fields, so each gets its own width. */
function widthAt(offset: number, left: number): AccessWidth {
  if (offset % 4 === 0 && left >= 4) return 4;
  return offset % 2 === 0 && left >= 2 ? 2 : 1;
}
