/** What a device's process has been told, apart from the connection over which: told again, it is where the one before was. */
import { VHOST_F_LOG_ALL, VHOST_USER_F_PROTOCOL_FEATURES } from '@virtlab/abi/vhost-user';
import {
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_RING_PACKED,
  featureBit,
  featureBits,
  hasFeature,
} from '@virtlab/abi/virtio';
import { type HandOverHandler, TransportError } from '@virtlab/virtio';
import { type FrontendChannel, missingBits } from './frontend-channel.ts';
import { protocolFault } from './fault.ts';
import { badAnswer } from './frontend-fault.ts';
import { FrontendInflight } from './frontend-inflight.ts';
import type { DriverMemory } from './frontend-memory.ts';
import { RingPositions } from './frontend-positions.ts';
import { FrontendRing, IncomingDoorbell, type QueueAddresses, type QueuePosition } from './frontend-ring.ts';
import { FrontendStatus, isStatus } from './frontend-status.ts';
import type { DoorbellAioContext, ResolvedFrontendOptions } from './frontend-options.ts';

/**
 * Not for drivers: the two bits of the protocol itself; addresses that need an IOTLB; and kick data, which an event file
 * descriptor does not carry.
 */
const HIDDEN = featureBits(
  VHOST_F_LOG_ALL,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_NOTIFICATION_DATA,
);
const PROTOCOL_FEATURES = featureBit(VHOST_USER_F_PROTOCOL_FEATURES);
/** Between two looks at what a device is to bring to an end by itself. */
const POLL_MS = 1;

export interface FrontendDeviceEvents {
  onCall(queue: number): void;
  /** A ring broke: the device needs reset. */
  onNeedsReset(): void;
}

export class FrontendDevice implements Disposable {
  readonly status: FrontendStatus = new FrontendStatus();
  readonly memory: DriverMemory;
  readonly #options: ResolvedFrontendOptions;
  readonly #events: FrontendDeviceEvents;
  readonly #rings: (FrontendRing | undefined)[] = [];
  readonly #inflight = new FrontendInflight();
  readonly #errors: IncomingDoorbell;
  /** Something was set since the last reset. */
  #isTouched = false;

  constructor(memory: DriverMemory, options: ResolvedFrontendOptions, events: FrontendDeviceEvents) {
    this.memory = memory;
    this.#options = options;
    this.#events = events;
    this.#errors = new IncomingDoorbell(options.aio, () => {
      this.status.needReset();
      events.onNeedsReset();
    });
  }

  ring(queue: number): FrontendRing | undefined {
    return this.#rings[queue];
  }

  async readFeatures(channel: FrontendChannel): Promise<bigint> {
    this.status.offered = (await channel.readFeatures()) & ~HIDDEN;
    return this.status.offered;
  }

  async writeFeatures(channel: FrontendChannel, features: bigint): Promise<void> {
    if (this.status.isFixed) return;
    if (this.status.offered === 0n) await this.readFeatures(channel);
    this.status.features = features;
    this.status.isRefused = false;
    // A device without a status cannot refuse features but by hanging up.
    if (!channel.has('STATUS') && !this.status.isAcceptable) return;
    this.#isTouched = true;
    await this.#sendFeatures(channel);
  }

  async readStatus(channel: FrontendChannel): Promise<number> {
    if (!channel.has('STATUS')) return this.status.value;
    return this.status.merged(await this.#askStatus(channel));
  }

  /** Anything but 0, which is `reset`. */
  async writeStatus(channel: FrontendChannel, written: number): Promise<void> {
    const { status } = this;
    const next = status.after(written);
    const told = (written | status.value) & ~VIRTIO_CONFIG_S_NEEDS_RESET;
    const begun = next & ~status.value;
    if ((begun & VIRTIO_CONFIG_S_DRIVER_OK) !== 0) await this.#start(channel);
    if (channel.has('STATUS')) await channel.tell('SET_STATUS', BigInt(told));
    status.value |= next;
    this.#isTouched = true;
    if ((begun & VIRTIO_CONFIG_S_FEATURES_OK) !== 0 && channel.has('STATUS')) {
      const own = await this.#askStatus(channel);
      if ((own & VIRTIO_CONFIG_S_FEATURES_OK) === 0) status.value &= ~VIRTIO_CONFIG_S_FEATURES_OK;
    }
    if ((begun & VIRTIO_CONFIG_S_DRIVER_OK) !== 0) this.#kickAll();
  }

  /** The ring of a queue may come back when the device is live, or be one of the first. */
  async enableQueue(channel: FrontendChannel, queue: number, addresses: QueueAddresses): Promise<void> {
    const ring = (this.#rings[queue] ??= this.#makeRing(queue));
    if (ring.isStarted) return;
    ring.place(addresses);
    this.#isTouched = true;
    try {
      await this.#setUp(channel, ring);
    } catch (error) {
      if (!channel.isEnded) ring.forget();
      throw error;
    }
    if (!this.#isLive) return;
    await ring.start(channel, this.#errors.fd);
    await ring.enable(channel);
    await channel.settle();
    ring.kick();
  }

  async resetQueue(channel: FrontendChannel, queue: number): Promise<void> {
    const ring = this.#rings[queue];
    ring?.forget();
    if (ring?.isStarted === true) await ring.stop(channel);
  }

  /** Resolves when the device is as new, and touches no memory. */
  async reset(channel: FrontendChannel): Promise<void> {
    const { status } = this;
    status.reset();
    this.#inflight[Symbol.dispose]();
    for (const ring of this.#rings) ring?.forget();
    if (channel.has('STATUS')) await channel.tell('SET_STATUS', 0n);
    else if (channel.has('RESET_DEVICE') && this.#isTouched) await channel.tell('RESET_DEVICE', undefined);
    // What a reset says of rings differs between devices; that GET_VRING_BASE stops one does not.
    for (const ring of this.#rings) if (ring?.isStarted === true) await ring.stop(channel);
    if (channel.has('STATUS')) await this.#untilReset(channel);
    this.#isTouched = false;
  }

  /** Stops the rings. What the device took is done, or the device says by where it stands that it is not. */
  async suspend(channel: FrontendChannel): Promise<void> {
    for (const ring of this.#rings) if (ring?.isStarted === true) await ring.stop(channel);
  }

  /**
   * Stops the rings so that another process can have them: one that says it is not done has the time limit of answers for it,
   * for what it finishes later goes to the same used ring.
   */
  async leave(channel: FrontendChannel, handOver: HandOverHandler | undefined): Promise<void> {
    const { aio, timeoutMs } = this.#options;
    const until = aio.now() + timeoutMs;
    await this.suspend(channel);
    const positions = this.#positions(handOver);
    const isBusy = (): boolean => this.#placed().some((ring) => positions.isUnfinished(ring));
    while (!channel.isEnded && aio.now() < until && isBusy()) await sleep(aio, POLL_MS);
  }

  /** The connection ended. */
  lost(): void {
    for (const ring of this.#rings) ring?.lost();
  }

  /**
   * Brings another process to where the one before was. Rejects with `ENOTSUP` when it cannot be: features are missing, or
   * nobody knows where a queue goes on.
   */
  async restore(channel: FrontendChannel, handOver: HandOverHandler | undefined): Promise<void> {
    const { status } = this;
    const missing = missingBits(channel.offered, status.features);
    if (missing !== undefined) {
      throw new TransportError('ENOTSUP', `The device that took over does not offer features ${missing}`);
    }
    if (!this.#isTouched) return;
    await this.#sendFeatures(channel);
    const before = status.value & ~(VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
    if (channel.has('STATUS') && before !== 0) await channel.tell('SET_STATUS', BigInt(before));
    const isTold = channel.has('INFLIGHT_SHMFD') && this.#inflight.isKept;
    const starts = this.#isLive ? this.#positions(handOver).elsewhere(this.#placed(), isTold) : undefined;
    for (const ring of this.#placed()) await this.#setUp(channel, ring, starts?.get(ring));
    if (!this.#isLive) return;
    await this.#start(channel);
    if (channel.has('STATUS')) await channel.tell('SET_STATUS', BigInt(status.value));
    this.#kickAll();
    // Calls that the process before owed.
    for (const ring of this.#placed()) ring.call();
  }

  /** Runs `work` while no ring runs, and sets those that did going again where they were, whatever comes of it. */
  async whilePaused(
    channel: FrontendChannel,
    handOver: HandOverHandler | undefined,
    work: () => Promise<void>,
  ): Promise<void> {
    const running = this.#placed().filter(({ isStarted }) => isStarted);
    try {
      await this.suspend(channel);
      await work();
    } finally {
      const stopped = running.filter(({ isStarted }) => !isStarted);
      if (!channel.isEnded) await this.#resume(channel, stopped, this.#positions(handOver));
    }
  }

  [Symbol.dispose](): void {
    for (const ring of this.#rings) ring?.[Symbol.dispose]();
    this.#rings.length = 0;
    this.#errors[Symbol.dispose]();
    this.#inflight[Symbol.dispose]();
    this.memory[Symbol.dispose]();
  }

  get #isLive(): boolean {
    return this.status.has(VIRTIO_CONFIG_S_DRIVER_OK);
  }
  get #isPacked(): boolean {
    return hasFeature(this.status.features, VIRTIO_F_RING_PACKED);
  }

  #positions(handOver: HandOverHandler | undefined): RingPositions {
    return new RingPositions(this.#isPacked, handOver);
  }

  #placed(): FrontendRing[] {
    return this.#rings.filter((ring) => ring?.addresses !== undefined) as FrontendRing[];
  }

  #makeRing(queue: number): FrontendRing {
    return new FrontendRing(queue, this.#options.aio, () => this.#events.onCall(queue));
  }

  async #setUp(channel: FrontendChannel, ring: FrontendRing, start?: QueuePosition): Promise<void> {
    await this.memory.share(channel);
    await ring.setUp(channel, this.#isPacked, start);
  }

  async #start(channel: FrontendChannel, rings: readonly FrontendRing[] = this.#placed()): Promise<void> {
    if (rings.length === 0) return;
    await this.#inflight.set(
      channel,
      rings.map(({ addresses }) => addresses!.size),
    );
    for (const ring of rings) await ring.start(channel, this.#errors.fd);
    for (const ring of rings) await ring.enable(channel);
    await channel.settle();
  }

  /** "Starting and stopping rings": older devices wait for the first kick. */
  #kickAll(): void {
    for (const ring of this.#placed()) ring.kick();
  }

  /** The process that stopped the rings goes on with them. */
  async #resume(
    channel: FrontendChannel,
    rings: readonly FrontendRing[],
    positions: RingPositions,
  ): Promise<void> {
    const going: FrontendRing[] = [];
    try {
      for (const ring of rings) {
        const start = positions.here(ring);
        if (!start.ok) throw channel.fail(start.fault);
        if (start.value === undefined) {
          // The driver looks, and sees what is wrong.
          ring.call();
          continue;
        }
        await this.#setUp(channel, ring, start.value);
        going.push(ring);
      }
      await this.#start(channel, going);
    } catch (error) {
      // Nobody would learn that the rings stand still.
      channel.fail(protocolFault('REFUSED', `stopped rings do not go on: ${(error as Error).message}`));
      throw error;
    }
    for (const ring of going) ring.kick();
  }

  async #sendFeatures(channel: FrontendChannel): Promise<void> {
    const { status } = this;
    const own = channel.hasProtocolFeatures ? PROTOCOL_FEATURES : 0n;
    try {
      await channel.tell('SET_FEATURES', status.features | own);
      status.isRefused = false;
    } catch (error) {
      if (!(error instanceof TransportError) || error.code !== 'EIO') throw error;
      // §2.2.2: the driver learns it by FEATURES_OK, which stays clear.
      status.isRefused = true;
    }
  }

  async #askStatus(channel: FrontendChannel): Promise<number> {
    const word = await channel.ask('GET_STATUS', undefined);
    if (!isStatus(word)) throw channel.fail(badAnswer('GET_STATUS', 'status', word, '8 bits'));
    return Number(word);
  }

  async #untilReset(channel: FrontendChannel): Promise<void> {
    const { aio, timeoutMs } = this.#options;
    const until = aio.now() + timeoutMs;
    while ((await this.#askStatus(channel)) !== 0) {
      if (aio.now() >= until) {
        throw new TransportError('ETIMEDOUT', `The status is not 0 ${timeoutMs} ms after a reset`);
      }
      await sleep(aio, POLL_MS);
    }
  }
}

/** Resolves after `delayMs`, or when `wake` does. */
export async function sleep(aio: DoorbellAioContext, delayMs: number, wake?: Promise<void>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  using timer = aio.createTimer(resolve);
  timer.arm(delayMs);
  await (wake === undefined ? promise : Promise.race([promise, wake]));
}
