/**
 * The device model between a transport and a device: status machine (VIRTIO §2.1, §3.1), feature negotiation
 * (§2.2), configuration generation (§2.5), queues. Written once; transports only carry words to it.
 */
import type { FeatureBits } from '@virtlab/abi/brands';
import type { AioContext } from '@virtlab/aio';
import {
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_VERSION_1,
  featureBit,
  hasFeature,
} from '@virtlab/abi/virtio';
import {
  createDeviceQueue,
  ringFeatures,
  type QueueAddresses,
  type QueueHandOver,
  type RingViolation,
} from '@virtlab/vring';
import { Activation } from './activation.ts';
import { checkDevice } from './check-device.ts';
import type { DeviceModel, DeviceTransport, QueueTakeover, VirtioDevice } from './contract.ts';
import { advanceStatus } from './device-status.ts';
import { refuseFeatureSet } from './features.ts';
import { LegacyMode } from './legacy.ts';
import type { DeviceQueueStatistics } from './hosted-queue.ts';
import { QueueResets } from './queue-resets.ts';
import { QueueService } from './queue-service.ts';
import { QueueStops, type QueueStopOptions } from './queue-stops.ts';
import { SeenConfig } from './seen-config.ts';

/** What a driver did against the specification, and on which queue if on one. */
export interface DeviceViolation {
  readonly device: string;
  readonly queue: number | undefined;
  readonly violation: RingViolation;
}

export interface DeviceHostOptions {
  readonly device: VirtioDevice;
  /** The loop that the device and its transport's device side run in. */
  readonly aio: AioContext;
  /** For messages. Default `virtio<device type>`. */
  readonly name?: string;
  /** Take part in the loop's adaptive polling. Default true. */
  readonly polling?: boolean;
  /** Feature bits that the device could do and that are not offered all the same. Default none. */
  readonly withheld?: FeatureBits;
  /**
   * Whether a transport's legacy interface may drive the device, without VERSION_1: its formats must be the same then, little
   * endian (an entropy source's and a disk's are; a network device's header is not). Default false.
   */
  readonly legacy?: boolean;
  readonly onViolation?: (report: DeviceViolation) => void;
  /**
   * The driver's features were not taken (§2.2.2), and why. It may try others; one that cannot find out, behind a transport
   * that shows it no status, never gets a queue.
   */
  readonly onRefusal?: (reason: string) => void;
  /** The device threw: its bug. It needs reset by then; the loop goes on. Default: written to the console. */
  readonly onError?: (error: unknown, device: string) => void;
}

/**
 *     reset ──ACKNOWLEDGE, DRIVER, FEATURES_OK──▶ configured ──DRIVER_OK──▶ live ──violation, device error──▶ needs reset
 *       ▲                                            │                      │                                  │
 *       └────────────────────────────────────────────┴──── 0 (I/O drained) ─┴──────────────────────────────────┘
 *
 * `writeStatus(0)` stops the device at once. If I/O is in flight the status keeps reading as it was until the device
 * has stopped touching memory; then it reads 0 and the transport is told through `statusChanged` (which is not called
 * for a reset that finished within `writeStatus`). Other writes during that time are ignored.
 */
export class DeviceHost implements DeviceModel, Disposable {
  readonly deviceType: number;
  readonly queueCount: number;
  readonly configSize: number;
  readonly name: string;
  readonly #device: VirtioDevice;
  readonly #options: DeviceHostOptions;
  readonly #service: QueueService;
  readonly #legacy: LegacyMode;
  #transport: DeviceTransport | undefined;
  #activation: Activation | undefined;
  #status = 0;
  #driverFeatures: FeatureBits = 0n;
  #configGeneration = 0;
  #isConfigDirty = false;
  #seenConfig: SeenConfig;
  #resetDone: PromiseWithResolvers<void> | undefined;
  readonly #queueResets: QueueResets;
  readonly #queueStops: QueueStops;
  #violation: RingViolation | undefined;
  #refusal: string | undefined;

  /** Throws `RangeError` when the device offers bits that are not a device's, or impossible queue sizes. */
  constructor(options: DeviceHostOptions) {
    const { device, aio } = options;
    checkDevice(device);
    this.deviceType = device.deviceType;
    this.queueCount = device.queueSizesMax.length;
    this.configSize = device.configSize;
    this.#seenConfig = new SeenConfig(device.configSize);
    this.name = options.name ?? `virtio${device.deviceType}`;
    this.#device = device;
    this.#options = options;
    this.#legacy = new LegacyMode(options.legacy ?? false);
    this.#service = new QueueService(device, aio, options.polling ?? true, {
      onViolation: (queue, violation) => this.#needsReset(violation, queue),
      onError: (error) => this.#deviceError(error),
    });
    this.#queueStops = new QueueStops(this.#service, aio);
    this.#queueResets = new QueueResets(this.#service, {
      done: (queue) => this.#transport?.queueResetDone?.(queue),
      onError: (error) => this.#deviceError(error),
    });
  }

  /** Throws `TypeError` when there is a transport already, or the reset of the last one is not over. */
  attach(transport: DeviceTransport): void {
    if (this.#transport !== undefined) throw new TypeError(`${this.name} is attached already`);
    if (this.#resetDone !== undefined) throw new TypeError(`${this.name} is still being reset`);
    this.#transport = transport;
  }

  /** Resets the device and forgets the transport, which is told nothing any more. Resolves once no memory is touched. */
  async detach(): Promise<void> {
    this.#transport = undefined;
    this.#seenConfig = new SeenConfig(this.configSize);
    this.#reset();
    await this.#resetDone?.promise;
  }

  /** By queue, since creation. */
  get statistics(): readonly DeviceQueueStatistics[] {
    return this.#service.statistics;
  }
  /** Why the device needs reset, if the driver is to blame. */
  get violation(): RingViolation | undefined {
    return this.#violation;
  }
  /** Why the latest FEATURES_OK was not taken. */
  get refusal(): string | undefined {
    return this.#refusal;
  }

  get deviceFeatures(): FeatureBits {
    const transport = this.#transport?.transportFeatures ?? 0n;
    const offered = this.#device.features | featureBit(VIRTIO_F_VERSION_1) | transport;
    const lacking = this.#device.resetQueue === undefined ? featureBit(VIRTIO_F_RING_RESET) : 0n;
    return offered & ~(lacking | (this.#options.withheld ?? 0n));
  }
  get driverFeatures(): FeatureBits {
    return this.#driverFeatures;
  }
  writeDriverFeatures(features: FeatureBits): void {
    if (this.#resetDone !== undefined || this.#has(VIRTIO_CONFIG_S_FEATURES_OK)) return;
    this.#driverFeatures = features;
  }

  get status(): number {
    return this.#status;
  }
  writeStatus(status: number): void {
    if (this.#resetDone !== undefined) return;
    if (status === 0) this.#reset();
    else advanceStatus(this.#status, status, this.#steps, this.#applyStatus);
  }

  queueSizeMax(queue: number): number {
    return this.#device.queueSizesMax[queue] ?? 0;
  }
  /** Whether what comes on the queue while it is disabled is to be discarded (`enableQueue` with `isDiscarded`), or waits. */
  discardsWhenDisabled(queue: number): boolean {
    return this.#device.discardedWhenDisabled?.includes(queue) === true;
  }
  isQueueEnabled(queue: number): boolean {
    return this.#service.queues[queue] !== undefined;
  }
  enableQueue(queue: number, addresses: QueueAddresses, takeover: QueueTakeover = {}): boolean {
    const transport = this.#transport;
    if (this.#resetDone !== undefined || transport === undefined) return false;
    const fault = this.#whyNotEnable(queue, addresses.size);
    if (fault !== undefined) return this.#refuseQueue(queue, fault);
    const created = createDeviceQueue({
      addresses,
      memory: transport.memory,
      features: ringFeatures(this.#driverFeatures),
      ...takeover,
    });
    if (!created.ok) return this.#refuseQueue(queue, created.violation);
    const ring = takeover.wrap?.(created.queue) ?? created.queue;
    const hosted = this.#service.setQueue(queue, ring, takeover.isDiscarded);
    this.#activation?.setQueue(queue, hosted);
    return true;
  }

  resetQueue(queue: number): boolean {
    if (this.#resetDone !== undefined || this.#transport === undefined) return false;
    const fault = this.#whyNotResetQueue(queue);
    if (fault !== undefined) return this.#refuseQueue(queue, fault);
    if (!this.isQueueEnabled(queue) || this.isQueueResetting(queue)) return true;
    this.#queueResets.start(queue, () => this.#device.resetQueue?.(queue));
    return true;
  }
  isQueueResetting(queue: number): boolean {
    return this.#queueResets.has(queue);
  }

  /**
   * For transports with `queueStart`: stops one queue once the device has finished what it took from it, and says what
   * `enableQueue` needs to go on. The queue is live, and calls are made, until the device has finished or the time is up.
   * What is not finished then is given up: `start` has the ring give it again, and where it cannot, because something behind
   * it is finished, it is among `takenChains`, and lost if whoever goes on is not told. Undefined for a queue that is not
   * enabled.
   */
  stopQueue(queue: number, options: QueueStopOptions = {}): Promise<QueueHandOver> | undefined {
    const hosted = this.#service.queues[queue];
    if (hosted === undefined) return undefined;
    return this.#queueStops.stop(queue, hosted, options, async () => {
      try {
        if (this.#activation !== undefined && !hosted.isDiscarded) await this.#device.resetQueue?.(queue);
      } catch (error) {
        this.#deviceError(error);
      }
    });
  }

  useLegacy(): boolean {
    return this.#resetDone === undefined && this.#legacy.use(this.#status);
  }

  refuse(violation: RingViolation): void {
    if (this.#status !== 0) this.#needsReset(violation, undefined);
  }

  /** Changes between two reads when the configuration did (§2.5.2); 32 bits, transports use the low ones they have. */
  get configGeneration(): number {
    if (this.#isConfigDirty) {
      this.#isConfigDirty = false;
      this.#configGeneration = (this.#configGeneration + 1) >>> 0;
    }
    return this.#configGeneration;
  }
  /** Bytes beyond `configSize` read as 0. */
  readConfig(offset: number, out: Uint8Array): void {
    const size = Math.max(0, Math.min(out.length, this.configSize - offset));
    out.fill(0, size);
    if (size === 0) return;
    const bytes = out.subarray(0, size);
    try {
      this.#device.readConfig(offset, bytes);
      this.#seenConfig.note(offset, bytes);
    } catch (error) {
      this.#deviceError(error);
    }
  }
  /** Ignored where it reaches beyond `configSize` or the device has no writable fields. */
  writeConfig(offset: number, bytes: Uint8Array): void {
    if (this.#resetDone !== undefined || bytes.length === 0 || offset + bytes.length > this.configSize)
      return;
    this.#seenConfig.forget(offset, bytes.length);
    try {
      this.#device.writeConfig?.(offset, bytes);
    } catch (error) {
      this.#deviceError(error);
    }
  }

  kick(queue: number): void {
    this.#service.kick(queue);
  }

  /** Stops at once, without waiting for the device; for the end of a program. Prefer `detach`. */
  [Symbol.dispose](): void {
    this.#transport = undefined;
    this.#reset();
    this.#service[Symbol.dispose]();
  }

  readonly #applyStatus = (bit: number): void => {
    this.#status |= bit;
  };

  readonly #steps = {
    featuresOk: (): boolean => {
      this.#refusal = this.#whyNotFeatures();
      if (this.#refusal !== undefined) this.#options.onRefusal?.(this.#refusal);
      return this.#refusal === undefined;
    },
    driverOk: (): void => this.#activate(),
    failed: (): void => this.#giveUp(),
  };

  #has(bit: number): boolean {
    return (this.#status & bit) !== 0;
  }

  #whyNotFeatures(): string | undefined {
    const refused = refuseFeatureSet(this.deviceFeatures, this.#legacy.judged(this.#driverFeatures));
    if (refused !== undefined) return refused;
    try {
      return this.#device.refuseFeatures?.(this.#driverFeatures);
    } catch (error) {
      this.#deviceError(error);
      return 'The device failed to look at the features';
    }
  }

  #whyNotEnable(queue: number, size: number): RingViolation | undefined {
    const sizeMax = this.queueSizeMax(queue);
    if (sizeMax === 0) return { section: '2.6', message: `Queue ${queue} does not exist` };
    const isAnyTime = this.#hasRingReset() || this.#transport?.capabilities.queueStart === true;
    const isLate = this.#has(VIRTIO_CONFIG_S_DRIVER_OK) && !isAnyTime;
    if (!this.#has(VIRTIO_CONFIG_S_FEATURES_OK) || isLate) {
      const status = `0x${this.#status.toString(16)}`;
      return { section: '3.1.1', message: `Queue ${queue} enabled outside of set-up, status ${status}` };
    }
    if (this.isQueueEnabled(queue)) {
      return { section: '3.1.1', message: `Queue ${queue} enabled twice` };
    }
    if (!Number.isInteger(size) || size <= 0 || size > sizeMax) {
      const given = `0x${size.toString(16)}`;
      return { section: '2.6', message: `Queue ${queue} size ${given} is not within 1 and ${sizeMax}` };
    }
    return undefined;
  }

  #whyNotResetQueue(queue: number): RingViolation | undefined {
    if (this.queueSizeMax(queue) === 0) return { section: '2.6.1', message: `Queue ${queue} does not exist` };
    if (!this.#hasRingReset()) {
      return { section: '2.6.1', message: `Queue ${queue} reset without VIRTIO_F_RING_RESET` };
    }
    if (this.#has(VIRTIO_CONFIG_S_DRIVER_OK)) return undefined;
    return { section: '2.6.1', message: `Queue ${queue} reset before DRIVER_OK` };
  }

  #hasRingReset(): boolean {
    return hasFeature(this.#driverFeatures, VIRTIO_F_RING_RESET);
  }

  #refuseQueue(queue: number, violation: RingViolation): false {
    this.#needsReset(violation, queue);
    return false;
  }

  #activate(): void {
    const transport = this.#transport;
    if (transport === undefined) return;
    const activation = new Activation(this.#driverFeatures, this.#options.aio, this.#service, {
      configChanged: () => this.#configChanged(),
      fail: (violation) => this.#needsReset(violation, undefined),
    });
    this.#activation = activation;
    try {
      // What the activation itself changes is the driver's doing, by the features that it chose.
      const isStale = this.#seenConfig.isStale((out) => this.#device.readConfig(0, out));
      this.#device.activate(activation);
      if (isStale) activation.configChanged();
    } catch (error) {
      this.#deviceError(error);
    }
    if (!this.#has(VIRTIO_CONFIG_S_NEEDS_RESET)) this.#service.start((queue) => transport.call(queue));
  }

  /** The driver set FAILED: nothing more is processed; rings that were never live are let go at once. */
  #giveUp(): void {
    this.#service.stop();
    if (this.#activation === undefined) this.#service.release();
  }

  #configChanged(): void {
    this.#isConfigDirty = true;
    this.#transport?.configChanged();
  }

  #needsReset(violation: RingViolation, queue: number | undefined): void {
    if (this.#has(VIRTIO_CONFIG_S_NEEDS_RESET) || this.#resetDone !== undefined) return;
    this.#violation = violation;
    this.#enterNeedsReset();
    this.#options.onViolation?.({ device: this.name, queue, violation });
  }

  #deviceError(error: unknown): void {
    if (!this.#has(VIRTIO_CONFIG_S_NEEDS_RESET) && this.#resetDone === undefined && this.#status !== 0) {
      this.#enterNeedsReset();
    }
    const { onError } = this.#options;
    if (onError === undefined) console.error(`${this.name}: device error`, error);
    else onError(error, this.name);
  }

  #enterNeedsReset(): void {
    this.#status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    this.#service.stop();
    this.#transport?.statusChanged();
    // §2.1.2: the notification is due only if DRIVER_OK is set.
    if (this.#has(VIRTIO_CONFIG_S_DRIVER_OK)) this.#transport?.configChanged();
  }

  #reset(): void {
    if (this.#resetDone !== undefined) return;
    this.#service.stop();
    const activation = this.#activation;
    this.#activation = undefined;
    if (activation === undefined) {
      this.#finishReset();
      return;
    }
    activation.retire();
    try {
      const draining = this.#device.reset();
      if (draining === undefined) {
        this.#finishReset();
        return;
      }
      this.#resetDone = Promise.withResolvers<void>();
      void this.#awaitReset(draining);
    } catch (error) {
      this.#deviceError(error);
      this.#finishReset();
    }
  }

  async #awaitReset(draining: Promise<void>): Promise<void> {
    try {
      await draining;
    } catch (error) {
      this.#deviceError(error);
    }
    const done = this.#resetDone;
    this.#finishReset();
    done?.resolve();
    this.#transport?.statusChanged();
  }

  #finishReset(): void {
    this.#queueResets.clear();
    this.#queueStops.clear();
    this.#service.release();
    this.#status = 0;
    this.#legacy.end();
    this.#driverFeatures = 0n;
    this.#violation = undefined;
    this.#refusal = undefined;
    this.#resetDone = undefined;
  }
}
