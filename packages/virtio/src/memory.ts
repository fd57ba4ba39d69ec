/**
 * The reference transport: driver and device in one process, over one memory. Register accesses are calls, doorbells
 * are event notifiers of the two loops. It is what the contract says and nothing else, and takes its faults as data.
 */
import { VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_RING_RESET, featureBit } from '@virtlab/abi/virtio';
import type { FeatureBits } from '@virtlab/abi/brands';
import { createPrng, type AioContext, type Prng } from '@virtlab/aio';
import {
  IdentityDeviceMemory,
  IdentityDmaMapper,
  type DeviceMemory,
  type DmaMapper,
  type MemoryRegion,
} from '@virtlab/guest-memory';
import type { QueueAddresses } from '@virtlab/vring';
import {
  TransportError,
  type DeviceModel,
  type DeviceTransport,
  type DriverLink,
  type DriverTransport,
  type TransportCapabilities,
} from './contract.ts';
import type { DeviceHost } from './device-host.ts';
import { Doorbell, type DoorbellPolicy } from './doorbell.ts';

export type { DoorbellPolicy } from './doorbell.ts';

export interface MemoryTransportOptions {
  /** The device; attached here, detached by `removeDevice` and `close`. Its loop takes the kicks. */
  readonly host: DeviceHost;
  readonly deviceAio: AioContext;
  /** The driver's loop; may be the same. */
  readonly driverAio: AioContext;
  /** The driver's memory. */
  readonly memory: MemoryRegion;
  /** How it is lent and reached. Default: addresses are offsets in `memory`. Give both or neither. */
  readonly dma?: DmaMapper;
  readonly deviceMemory?: DeviceMemory;
  /** Default `calm`. */
  readonly doorbells?: DoorbellPolicy;
  /** Of the doorbells' delays. Default 1. */
  readonly seed?: number;
  /** Offer ACCESS_PLATFORM, as a transport does whose addresses are translated. Default false. */
  readonly accessPlatform?: boolean;
}

export interface MemoryTransport {
  readonly link: DriverLink;
  readonly transport: DeviceTransport;
  /** Unplugs the device: pending operations reject with ENODEV, the driver's `onGone` runs. */
  removeDevice(reason?: string): Promise<void>;
  /** Ends both sides; the device is reset. */
  close(): Promise<void>;
}

const CAPABILITIES: TransportCapabilities = {
  name: 'memory',
  queueReset: true,
  configWrite: true,
  callPerQueue: true,
};

export function createMemoryTransport(options: MemoryTransportOptions): MemoryTransport {
  const dma = options.dma ?? new IdentityDmaMapper(options.memory);
  const deviceMemory =
    options.deviceMemory ?? new IdentityDeviceMemory([{ guestAddress: 0n, region: options.memory }]);
  const random = createPrng(options.seed ?? 1);
  const driver = new MemoryDriverTransport(options, random);
  const transport: DeviceTransport = {
    capabilities: CAPABILITIES,
    transportFeatures:
      featureBit(VIRTIO_F_RING_RESET) |
      (options.accessPlatform === true ? featureBit(VIRTIO_F_ACCESS_PLATFORM) : 0n),
    memory: deviceMemory,
    call: (queue) => driver.called(queue),
    configChanged: () => driver.configChanged(),
    statusChanged: () => driver.statusChanged(),
    queueResetDone: (queue) => driver.queueResetDone(queue),
  };
  options.host.attach(transport);
  const link: DriverLink = {
    transport: driver,
    dma,
    [Symbol.asyncDispose]: () => driver[Symbol.asyncDispose](),
  };
  return {
    link,
    transport,
    removeDevice: (reason = 'removed') => driver.removeDevice(reason),
    close: async () => {
      await driver[Symbol.asyncDispose]();
      await options.host.detach();
    },
  };
}

class MemoryDriverTransport implements DriverTransport {
  readonly deviceType: number;
  readonly queueCount: number;
  readonly capabilities: TransportCapabilities = CAPABILITIES;
  readonly #host: DeviceHost;
  /** Undefined once the device was removed or this side closed. */
  #model: DeviceModel | undefined;
  readonly #kicks: readonly Doorbell[];
  readonly #calls: readonly Doorbell[];
  readonly #configDoorbell: Doorbell;
  readonly #goneDoorbell: Doorbell;
  readonly #callHandlers: ((() => void) | undefined)[];
  #configHandler: (() => void) | undefined;
  #goneHandler: ((reason: string) => void) | undefined;
  /** Set until `onGone` was told. */
  #goneReason: string | undefined;
  #isClosed = false;
  #resetWaiters: PromiseWithResolvers<void>[] = [];
  readonly #queueResetWaiters = new Map<number, PromiseWithResolvers<void>>();

  constructor(options: MemoryTransportOptions, random: Prng) {
    const { host, driverAio, deviceAio } = options;
    const policy = options.doorbells ?? 'calm';
    this.deviceType = host.deviceType;
    this.queueCount = host.queueCount;
    this.#host = host;
    this.#model = host;
    const queues = Array.from({ length: host.queueCount }, (_, queue) => queue);
    this.#callHandlers = queues.map(() => undefined);
    this.#kicks = queues.map(
      (queue) => new Doorbell(deviceAio, () => this.#model?.kick(queue), policy, random),
    );
    this.#calls = queues.map(
      (queue) => new Doorbell(driverAio, () => this.#callHandlers[queue]?.(), policy, random),
    );
    this.#configDoorbell = new Doorbell(driverAio, () => this.#configHandler?.(), policy, random);
    this.#goneDoorbell = new Doorbell(driverAio, () => this.#tellGone(), 'calm', random);
  }

  async readDeviceFeatures(): Promise<FeatureBits> {
    return this.#present().deviceFeatures;
  }
  async writeDriverFeatures(features: FeatureBits): Promise<void> {
    this.#present().writeDriverFeatures(features);
  }

  async readStatus(): Promise<number> {
    return this.#present().status;
  }
  async writeStatus(status: number): Promise<void> {
    const model = this.#present();
    model.writeStatus(status);
    if (status === 0 && model.status === 0) this.statusChanged();
    if (status !== 0 || model.status === 0) return;
    const waiter = Promise.withResolvers<void>();
    this.#resetWaiters.push(waiter);
    await waiter.promise;
  }

  async readQueueSizeMax(queue: number): Promise<number> {
    return this.#present().queueSizeMax(queue);
  }
  async enableQueue(queue: number, addresses: QueueAddresses): Promise<void> {
    if (!this.#present().enableQueue(queue, addresses)) {
      throw new TransportError('EIO', `The device refused queue ${queue}`);
    }
  }

  async resetQueue(queue: number): Promise<void> {
    const model = this.#present();
    if (!model.resetQueue(queue)) throw new TransportError('EIO', `The device does not reset queue ${queue}`);
    if (!model.isQueueResetting(queue)) return;
    const waiter = this.#queueResetWaiters.get(queue) ?? Promise.withResolvers<void>();
    this.#queueResetWaiters.set(queue, waiter);
    await waiter.promise;
  }

  async readConfigBytes(offset: number, out: Uint8Array): Promise<void> {
    this.#present().readConfig(offset, out);
  }
  async readConfigGeneration(): Promise<number> {
    return this.#present().configGeneration;
  }
  async writeConfigBytes(offset: number, bytes: Uint8Array): Promise<void> {
    this.#present().writeConfig(offset, bytes);
  }

  kick(queue: number): void {
    if (this.#model !== undefined) this.#kicks[queue]?.ring();
  }
  onCall(queue: number, handler: (() => void) | undefined): void {
    if (queue >= this.queueCount) throw new RangeError(`No queue ${queue}`);
    this.#callHandlers[queue] = handler;
  }
  onConfigChange(handler: (() => void) | undefined): void {
    this.#configHandler = handler;
  }
  onGone(handler: ((reason: string) => void) | undefined): void {
    this.#goneHandler = handler;
    if (this.#goneReason !== undefined && handler !== undefined) this.#goneDoorbell.ring();
  }

  /** The device's side of the doorbells and words. */
  called(queue: number): void {
    if (this.#model !== undefined) this.#calls[queue]?.ring();
  }
  configChanged(): void {
    if (this.#model !== undefined) this.#configDoorbell.ring();
  }
  statusChanged(): void {
    if (this.#model?.status !== 0) return;
    for (const waiter of this.#takeWaiters()) waiter.resolve();
  }
  queueResetDone(queue: number): void {
    this.#queueResetWaiters.get(queue)?.resolve();
    this.#queueResetWaiters.delete(queue);
  }

  async removeDevice(reason: string): Promise<void> {
    if (this.#model === undefined) return;
    this.#goneReason = reason;
    this.#unplug(reason);
    // Told only when the device has stopped touching memory: the driver may then take it back.
    await this.#host.detach();
    if (!this.#isClosed) this.#goneDoorbell.ring();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      await this.writeStatus(0);
    } catch (error) {
      if (!(error instanceof TransportError)) throw error;
    }
    this.#unplug('closed');
    this.#goneReason = undefined;
    this.#goneHandler = undefined;
    for (const doorbell of [...this.#calls, this.#configDoorbell, this.#goneDoorbell])
      doorbell[Symbol.dispose]();
  }

  #present(): DeviceModel {
    if (this.#model === undefined) throw new TransportError('ENODEV', 'The device is not there');
    return this.#model;
  }

  #unplug(reason: string): void {
    if (this.#model === undefined) return;
    this.#model = undefined;
    for (const kick of this.#kicks) kick[Symbol.dispose]();
    for (const waiter of this.#takeWaiters()) waiter.reject(new TransportError('ENODEV', reason));
  }

  #takeWaiters(): PromiseWithResolvers<void>[] {
    // A reset of the device ends those of its queues.
    const waiters = [...this.#resetWaiters, ...this.#queueResetWaiters.values()];
    this.#resetWaiters = [];
    this.#queueResetWaiters.clear();
    return waiters;
  }

  #tellGone(): void {
    const reason = this.#goneReason;
    const handler = this.#goneHandler;
    if (reason === undefined || handler === undefined) return;
    this.#goneReason = undefined;
    handler(reason);
  }
}
