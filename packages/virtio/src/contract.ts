import type { FeatureBits } from '@virtlab/abi/brands';
import type { AioContext } from '@virtlab/aio';
import type { DeviceMemory, DmaMapper, MemoryRegion } from '@virtlab/guest-memory';
import type { DeviceQueue, QueueAddresses, QueuePosition, RingViolation, TakenChain } from '@virtlab/vring';

/** What a transport can do; the conformance suite reads it to decide what to require. */
export interface TransportCapabilities {
  readonly name: string;
  /** A queue can be reset alone (VIRTIO_F_RING_RESET). */
  readonly queueReset: boolean;
  /** Driver writes to device configuration space reach the device. */
  readonly configWrite: boolean;
  /** Each queue has a call of its own (otherwise a call runs the handlers of all queues). */
  readonly callPerQueue: boolean;
  /**
   * The device is driven through its legacy interface (§2.2.3, §3.1.2): no VERSION_1, 32 feature bits, a queue of the device's
   * size with all areas behind the first. Default false.
   */
  readonly legacy?: boolean;
  /** Ring addresses that cannot be right are refused on the way, and no device model gets to see them. Default false. */
  readonly checksRings?: boolean;
  /**
   * Device side: queues live one by one, so that each may be enabled, and stopped with `DeviceHost.stopQueue`, at any time
   * from FEATURES_OK on. Default false: only before DRIVER_OK, or after the queue alone was reset.
   */
  readonly queueStart?: boolean;
}

/** How a transport that knows a queue's past enables it. */
export interface QueueTakeover {
  /** Default: the ring is new. */
  readonly start?: QueuePosition;
  /** Requests that whoever had the queue before had taken and not finished; `start` counts them as taken. */
  readonly takenChains?: readonly TakenChain[];
  /**
   * The queue is not for the device, which does not see it: what the driver makes available comes back, with nothing read of it and
   * nothing written. Default false.
   */
  readonly isDiscarded?: boolean;
  /** Puts something between the ring and the device, which sees each pop, push and publication. Default: nothing. */
  wrap?(queue: DeviceQueue): DeviceQueue;
}

/**
 * The driver's view of one device. The control plane is asynchronous (a xenbus step is a xenstore round trip; PCI
 * resolves at once); `kick` and the call handlers never suspend.
 *
 * Doorbells carry no data, may coalesce, may be spurious, are never lost: after a kick returned, the device will look at
 * the queue; a call handler that runs has everything the device published before the call.
 *
 * Operations reject with `TransportError` when the device is gone, answers nonsense, or does not answer in time.
 */
export interface DriverTransport extends AsyncDisposable {
  /** VIRTIO §5 device id. */
  readonly deviceType: number;
  /** Queues the device has; queue indices are below it. */
  readonly queueCount: number;
  readonly capabilities: TransportCapabilities;

  readDeviceFeatures(): Promise<FeatureBits>;
  writeDriverFeatures(features: FeatureBits): Promise<void>;

  readStatus(): Promise<number>;
  /** Writes device_status; 0 resets and resolves once the reset is complete (a status of 0 reads back). */
  writeStatus(status: number): Promise<void>;

  /** Largest size the device takes for the queue; 0 when the queue does not exist. */
  readQueueSizeMax(queue: number): Promise<number>;
  /** Tells the device where the queue is and enables it: before DRIVER_OK, or after the queue alone was reset. */
  enableQueue(queue: number, addresses: QueueAddresses): Promise<void>;
  /**
   * §2.6.1: stops one queue; resolves once the device touches neither it nor its buffers. Needs VIRTIO_F_RING_RESET
   * negotiated; rejects with ENOTSUP where `capabilities.queueReset` is false.
   */
  resetQueue(queue: number): Promise<void>;

  /** Bytes `[offset, offset + out.length)` of device configuration space as they are now (may tear: see `readConfig` in config.ts). */
  readConfigBytes(offset: number, out: Uint8Array): Promise<void>;
  readConfigGeneration(): Promise<number>;
  writeConfigBytes(offset: number, bytes: Uint8Array): Promise<void>;

  /**
   * Available-buffer notification. `data` is `DriverQueue.kickData`, required when VIRTIO_F_NOTIFICATION_DATA was
   * negotiated (which only a transport offers that carries it) and ignored otherwise.
   */
  kick(queue: number, data?: number): void;
  /** Used-buffer notification; at most one handler a queue, undefined removes it. */
  onCall(queue: number, handler: (() => void) | undefined): void;
  /** Configuration change, device status change (NEEDS_RESET) included. */
  onConfigChange(handler: (() => void) | undefined): void;
  /**
   * Transports on which another process may take the place of a device that died: which position it starts a queue at
   * (`DriverQueue.handOver`), asked while no device looks at the queue. Where nobody can say, the device is gone instead.
   */
  onHandOver?(handler: HandOverHandler | undefined): void;
  /** The device's side went away for good (removed, or its domain died), and touches the driver's memory no more. Called once. */
  onGone(handler: ((reason: string) => void) | undefined): void;
}

/** `again`: the new device does not know what the one before had begun. */
export type HandOverHandler = (queue: number, again: boolean) => QueuePosition | undefined;

/**
 * Memory that the caller brought, lent to the device until `Symbol.dispose`; then, and when the link is disposed, its views read
 * zeros. Contiguous in device addresses.
 */
export interface LentMemory extends Disposable {
  readonly memory: MemoryRegion;
  /** Where it begins in `memory`. */
  readonly offset: number;
  readonly size: number;
  readonly addressLow: number;
  readonly addressHigh: number;
}

/** What a driver is given: the pair that swaps when the transport swaps. */
export interface DriverLink extends AsyncDisposable {
  readonly transport: DriverTransport;
  readonly dma: DmaMapper;
  /** Pieces of memory that `mapMemory` lends beside each other. Default 0. */
  readonly mappedMemoryCountMax?: number;
  /**
   * Transports whose device maps memory by its file descriptor: lends `[offset, offset + size)` of one, page aligned. It stays the
   * caller's and may be closed once this resolved. Rejects with `RangeError` for what cannot be meant, and with
   * `TransportError` `EINVAL` (memory that can shrink, or is shorter), `ENOSPC` (no slot is free), `ENOTSUP`, `ENODEV`, …
   */
  mapMemory?(fd: number, offset: number, size: number): Promise<LentMemory>;
}

/**
 * What a transport's device side asks of the device model behind it, implemented once by `DeviceHost`
 * (status machine, negotiation, queues): registers or xenstore nodes in, calls out. All synchronous; `writeStatus(0)`
 * may complete later (I/O in flight), see `status`.
 */
export interface DeviceModel {
  readonly deviceType: number;
  readonly queueCount: number;
  readonly configSize: number;
  /** Offered to this transport: the device's, the ring's, and the transport's own bits. */
  readonly deviceFeatures: FeatureBits;
  readonly driverFeatures: FeatureBits;
  /** Ignored (kept as it was) once FEATURES_OK is set. */
  writeDriverFeatures(features: FeatureBits): void;
  /** As the driver would read it: FEATURES_OK stays clear when the set was not acceptable. */
  readonly status: number;
  writeStatus(status: number): void;
  queueSizeMax(queue: number): number;
  isQueueEnabled(queue: number): boolean;
  /** False when not possible now or the addresses are refused; the driver's fault is recorded and the device needs reset. */
  enableQueue(queue: number, addresses: QueueAddresses, takeover?: QueueTakeover): boolean;
  /**
   * §2.6.1: stops one queue, at once or, with I/O in flight, later: then `isQueueResetting` until the transport is told
   * through `queueResetDone` (which is not called for a reset that finished within this call). False, with the driver's
   * fault recorded, when RING_RESET was not negotiated or the device is not live. Resetting a queue that is not
   * enabled does nothing.
   */
  resetQueue(queue: number): boolean;
  isQueueResetting(queue: number): boolean;
  /**
   * The driver uses the legacy interface until the next reset: VERSION_1 is not asked of it. False when the device cannot do
   * without, or a driver that is no legacy one has begun. Asked of transports that have such an interface.
   */
  useLegacy?(): boolean;
  /** The driver broke a rule of the transport's own registers or nodes: recorded, and the device needs reset. */
  refuse(violation: RingViolation): void;
  readonly configGeneration: number;
  readConfig(offset: number, out: Uint8Array): void;
  writeConfig(offset: number, bytes: Uint8Array): void;
  /** The driver kicked the queue. Ignored before DRIVER_OK and for queues that are not enabled. */
  kick(queue: number): void;
}

/** The device's view of its transport. Implemented by virtio-pci, virtio-xenbus, memory, vhost-user. */
export interface DeviceTransport {
  readonly capabilities: TransportCapabilities;
  /**
   * Feature bits that this transport adds to the device's offer (ACCESS_PLATFORM, NOTIFICATION_DATA, ...). RING_RESET
   * among them is offered only if the device can reset a queue.
   */
  readonly transportFeatures: FeatureBits;
  /** How rings and buffers are reached, once the driver is connected. */
  readonly memory: DeviceMemory;
  /** Used-buffer notification for the queue. Never suspends. */
  call(queue: number): void;
  /** Configuration or status changed: tell the driver. */
  configChanged(): void;
  /** The status word changed by the device's own doing (reset complete, NEEDS_RESET). */
  statusChanged(): void;
  /** A queue's reset that took its time is complete. Required of transports that offer RING_RESET. */
  queueResetDone?(queue: number): void;
}

/** What a device receives when the driver set DRIVER_OK; valid until `VirtioDevice.reset`. */
export interface DeviceActivation {
  readonly features: FeatureBits;
  readonly aio: AioContext;
  /**
   * By queue index; undefined where the driver did not enable the queue. A queue that was reset alone and enabled again
   * is another object at the same index: look it up, do not keep it.
   */
  readonly queues: readonly (DeviceQueue | undefined)[];
  /** Publishes used buffers and calls the driver if it asked for it. */
  complete(queue: number): void;
  /** Device configuration changed: bumps the generation and tells the driver. */
  configChanged(): void;
  /** The driver broke the device's own rules: device needs reset, queues stop, everybody else lives on. */
  fail(violation: RingViolation): void;
}

/**
 * A device, written once, run over every transport. It sees chains and configuration bytes, never a register,
 * a grant or a doorbell.
 *
 * Life: created → `activate` (DRIVER_OK) → `processQueue` on kicks or polling → `reset` → `activate` …
 */
export interface VirtioDevice {
  readonly deviceType: number;
  /** Device-type bits it offers, and ring bits (`ALL_RING_FEATURES`) that its host shall offer for it. */
  readonly features: FeatureBits;
  /** Largest size of each queue; its length is the number of queues. */
  readonly queueSizesMax: readonly number[];
  /**
   * Queues of which it discards what comes while they are disabled, on transports that know such a state (vhost-user, "Ring
   * states"), as a network device what is sent. Others wait. Default none.
   */
  readonly discardedWhenDisabled?: readonly number[];
  readonly configSize: number;
  readConfig(offset: number, out: Uint8Array): void;
  /** Bytes a driver wrote; a device without writable fields ignores them. */
  writeConfig?(offset: number, bytes: Uint8Array): void;
  /** A feature set the device cannot work with (dependencies) is refused with a sentence saying why. */
  refuseFeatures?(features: FeatureBits): string | undefined;
  activate(activation: DeviceActivation): void;
  /**
   * Forgets the chains of one queue, which is being reset alone (§2.6.1): none of them is touched after the returned
   * promise resolves (or at return, if none). A device without it does not offer VIRTIO_F_RING_RESET.
   */
  resetQueue?(queue: number): void | Promise<void>;
  /** Takes what is available on the queue, run-to-completion; asynchronous work may complete later. */
  processQueue(queue: number): void;
  /** Stops: no guest memory is touched after the returned promise resolves (or at return, if none). */
  reset(): void | Promise<void>;
}

/** The device, or what stands for it, did not do what the operation needs. */
export class TransportError extends Error {
  readonly code: 'ENODEV' | 'EIO' | 'EPROTO' | 'ETIMEDOUT' | 'ENOTSUP' | 'EINVAL' | 'ENOSPC';
  constructor(code: TransportError['code'], message: string, options?: ErrorOptions) {
    super(`${code}: ${message}`, options);
    this.name = 'TransportError';
    this.code = code;
  }
}
