/** The driver's half of bringing a device up, in the order of VIRTIO §3.1.1, over any transport. */
import type { FeatureBits } from '@virtlab/abi/brands';
import type { AioContext } from '@virtlab/aio';
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FAILED,
  VIRTIO_CONFIG_S_FEATURES_OK,
} from '@virtlab/abi/virtio';
import { VIRTQUEUE_SIZE_MAX } from '@virtlab/abi/virtio-ring';
import { createDriverQueue, ringFeatures, type DriverQueue } from '@virtlab/vring';
import { TransportError, type DriverLink, type DriverTransport } from './contract.ts';
import { withDeadline } from './deadline.ts';
import { GoneWatch } from './gone-watch.ts';
import { DriverSession } from './driver-session.ts';
import { describeStatus } from './device-status.ts';
import { ALWAYS_ACCEPTED, describeFeatures, negotiateFeatures } from './features.ts';
import { mandatoryFeatures, queueShape } from './legacy.ts';

export interface InitializeOptions {
  /** The loop that call handlers run in and whose clock deadlines follow. */
  readonly aio: AioContext;
  /** Accepted where offered; VERSION_1, ACCESS_PLATFORM, ORDER_PLATFORM and RING_RESET are accepted without being named. */
  readonly wanted: FeatureBits;
  /** Without these the driver gives up. */
  readonly required?: FeatureBits;
  /** Queues to set up, from index 0; each must exist. Default: all the device has. */
  readonly queueCount?: number;
  /** Entries at most; the device's own limit holds as well. A power of two. Default 256. */
  readonly queueSizeMax?: number;
  /** For each control operation. Default 5000. */
  readonly timeoutMs?: number;
  /** Take part in the loop's adaptive polling. Default true. */
  readonly polling?: boolean;
  /** Buffers in one request at most. Default as `createDriverQueue`. */
  readonly bufferCountMax?: number;
}

/**
 * Resets the device and brings it to DRIVER_OK. On failure the device is left in FAILED, nothing stays lent, and the
 * promise rejects: `TransportError` with `EPROTO` (the device refuses or does not follow the protocol), `ENOTSUP`
 * (a required feature is not offered), `ETIMEDOUT`, `ENODEV`, `EIO`; `DmaError` when there is no memory for the rings.
 */
export async function initializeDevice(link: DriverLink, options: InitializeOptions): Promise<DriverSession> {
  const sizeMax = options.queueSizeMax ?? 256;
  if (!Number.isInteger(sizeMax) || sizeMax <= 0 || (sizeMax & (sizeMax - 1)) !== 0) {
    throw new RangeError(`queueSizeMax ${sizeMax} is not a power of two`);
  }
  return await new Bringup(link, options).run(Math.min(sizeMax, VIRTQUEUE_SIZE_MAX));
}

class Bringup {
  readonly #link: DriverLink;
  readonly #transport: DriverTransport;
  readonly #options: InitializeOptions;
  readonly #timeoutMs: number;
  readonly #gone: GoneWatch;
  readonly #queues: DriverQueue[] = [];
  #status = 0;

  constructor(link: DriverLink, options: InitializeOptions) {
    this.#link = link;
    this.#transport = link.transport;
    this.#options = options;
    this.#timeoutMs = options.timeoutMs ?? 5000;
    this.#gone = new GoneWatch(link.transport);
  }

  async run(queueSizeMax: number): Promise<DriverSession> {
    let session: DriverSession | undefined;
    try {
      await this.#reset();
      await this.#addStatus(VIRTIO_CONFIG_S_ACKNOWLEDGE);
      await this.#addStatus(VIRTIO_CONFIG_S_DRIVER);
      const features = await this.#negotiate();
      await this.#setUpQueues(features, queueSizeMax);
      session = new DriverSession({
        link: this.#link,
        aio: this.#options.aio,
        features,
        queues: this.#queues,
        createQueue: (size) => this.#createQueue(features, { size }),
        gone: this.#gone,
        timeoutMs: this.#timeoutMs,
        polling: this.#options.polling ?? true,
      });
      await this.#addStatus(VIRTIO_CONFIG_S_DRIVER_OK);
      return session;
    } catch (error) {
      await this.#giveUp(session);
      throw error;
    }
  }

  async #step<T>(what: string, operation: Promise<T>): Promise<T> {
    return await withDeadline(this.#options.aio, this.#timeoutMs, what, operation);
  }

  async #reset(): Promise<void> {
    await this.#step('Reset', this.#transport.writeStatus(0));
    const status = await this.#step('Reading the status', this.#transport.readStatus());
    if (status !== 0) throw new TransportError('EPROTO', `Status ${describeStatus(status)} after a reset`);
    this.#status = 0;
  }

  async #addStatus(bit: number): Promise<void> {
    this.#status |= bit;
    await this.#step(`Status ${describeStatus(this.#status)}`, this.#transport.writeStatus(this.#status));
  }

  /** §3.1.1 steps 4 to 6. */
  async #negotiate(): Promise<FeatureBits> {
    const { deviceType } = this.#transport;
    const offered = await this.#step('Reading the features', this.#transport.readDeviceFeatures());
    const wanted = this.#options.wanted | ALWAYS_ACCEPTED;
    const mandatory = mandatoryFeatures(this.#transport);
    const outcome = negotiateFeatures(offered, wanted, this.#options.required, mandatory);
    if (!outcome.ok) {
      const missing = describeFeatures(outcome.missing, deviceType).join(', ');
      throw new TransportError('ENOTSUP', `The device does not offer ${missing}`);
    }
    await this.#step('Writing the features', this.#transport.writeDriverFeatures(outcome.features));
    await this.#addStatus(VIRTIO_CONFIG_S_FEATURES_OK);
    const status = await this.#step('Reading the status', this.#transport.readStatus());
    if ((status & VIRTIO_CONFIG_S_FEATURES_OK) === 0) {
      const accepted = describeFeatures(outcome.features, deviceType).join(', ');
      throw new TransportError('EPROTO', `The device refused the features ${accepted}`);
    }
    return outcome.features;
  }

  /** §3.1.1 step 7. */
  async #setUpQueues(features: FeatureBits, queueSizeMax: number): Promise<void> {
    const count = this.#options.queueCount ?? this.#transport.queueCount;
    for (let index = 0; index < count; index += 1) {
      const limit = await this.#step(`Queue ${index} size`, this.#transport.readQueueSizeMax(index));
      if (limit === 0) throw new TransportError('EPROTO', `The device has no queue ${index}`);
      const size = Math.min(powerOfTwoWithin(limit), queueSizeMax);
      const queue = this.#createQueue(features, queueShape(this.#transport, size, limit));
      this.#queues.push(queue);
      await this.#step(`Enabling queue ${index}`, this.#transport.enableQueue(index, queue.addresses));
    }
  }

  #createQueue(features: FeatureBits, shape: ReturnType<typeof queueShape>): DriverQueue {
    const { bufferCountMax } = this.#options;
    return createDriverQueue({
      ...shape,
      dma: this.#link.dma,
      features: ringFeatures(features),
      ...(bufferCountMax === undefined ? {} : { bufferCountMax }),
    });
  }

  /** §3.1.1: FAILED. A reset comes first where the device was shown memory, so that it is free to be taken back. */
  async #giveUp(session: DriverSession | undefined): Promise<void> {
    try {
      if (session !== undefined) await session.stop();
      else if (this.#queues.length > 0) await this.#takeBack();
      if (this.#queues.length > 0) this.#status = 0;
      await this.#addStatus(VIRTIO_CONFIG_S_FAILED);
    } catch {
      // The error that made the driver give up is the one to report; a device this far gone has no use for FAILED.
    } finally {
      this.#gone.stop();
    }
  }

  async #takeBack(): Promise<void> {
    await this.#step('Reset', this.#gone.reset());
    for (const queue of this.#queues) queue.release();
  }
}

function powerOfTwoWithin(limit: number): number {
  return 2 ** Math.floor(Math.log2(Math.min(limit, VIRTQUEUE_SIZE_MAX)));
}
