/** The driver's transport over vhost-user. */
import { VIRTIO_F_RING_RESET, hasFeature } from '@virtlab/abi/virtio';
import type { UnixStream } from '@virtlab/linux';
import {
  type DriverTransport,
  type HandOverHandler,
  type TransportCapabilities,
  TransportError,
} from '@virtlab/virtio';
import type { VhostUserProtocolFeature } from '@virtlab/abi/vhost-user';
import type { FrontendChannel } from './frontend-channel.ts';
import { readConfigSpace, writeConfigSpace } from './frontend-config.ts';
import { FrontendConnection } from './frontend-connection.ts';
import { FrontendDevice, sleep } from './frontend-device.ts';
import type { DriverMemory, MemoryTeller, Pause } from './frontend-memory.ts';
import type { ResolvedFrontendOptions } from './frontend-options.ts';
import type { QueueAddresses } from './frontend-ring.ts';
import { FrontendTeller } from './frontend-teller.ts';

/** What `connectVhostUser` gives: a `DriverTransport` that also tells what it stands on. */
export interface VhostUserDriverTransport extends DriverTransport {
  /** Negotiated with the process that is there, or was last. */
  readonly protocolFeatures: ReadonlySet<VhostUserProtocolFeature>;
  /** How often another process took over. */
  readonly reconnectCount: number;
  /**
   * Leaves the device's process, which finishes what it has begun, and goes on with the one that listens at the path within
   * `withinMs` (default as the `reconnect` option, or the time limit of answers). What it has not finished within the time
   * limit of answers is done again. Rejects with `ENODEV` when none listens; the device is gone then.
   */
  reconnect(withinMs?: number): Promise<void>;
}

export class FrontendTransport implements VhostUserDriverTransport, MemoryTeller {
  readonly deviceType: number;
  readonly #options: ResolvedFrontendOptions;
  readonly #device: FrontendDevice;
  readonly #connection: FrontendConnection;
  readonly #teller: FrontendTeller;
  readonly #calls: ((() => void) | undefined)[] = [];
  #channel!: FrontendChannel;
  #handOver: HandOverHandler | undefined;
  #generation = 0;
  #reconnectCount = 0;
  /** Operations that change the device follow one another. */
  #turn: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  private constructor(memory: DriverMemory, options: ResolvedFrontendOptions) {
    this.deviceType = options.deviceType;
    this.#options = options;
    this.#teller = new FrontendTeller(options.aio);
    this.#device = new FrontendDevice(memory, options, {
      onCall: (queue) => this.#calls[queue]?.(),
      onNeedsReset: () => this.#teller.configChanged(),
    });
    this.#connection = new FrontendConnection(options, {
      onConfigChange: () => this.#configChanged(),
      onLost: () => this.#device.lost(),
      onGone: (reason) => this.#teller.gone(reason),
      restore: (channel) => this.#restore(channel),
    });
  }

  /** Owns stream and memory from the call on. Rejects with `TransportError`. */
  static async open(
    stream: UnixStream,
    memory: DriverMemory,
    options: ResolvedFrontendOptions,
  ): Promise<FrontendTransport> {
    const transport = new FrontendTransport(memory, options);
    try {
      transport.#channel = await transport.#connection.open(stream);
      return transport;
    } catch (error) {
      await transport.#dispose();
      throw error;
    }
  }

  get queueCount(): number {
    return this.#channel.queueCount;
  }
  get capabilities(): TransportCapabilities {
    return {
      name: 'vhost-user',
      queueReset: hasFeature(this.#channel.offered, VIRTIO_F_RING_RESET),
      configWrite: this.#channel.has('CONFIG'),
      callPerQueue: true,
      checksRings: true,
    };
  }
  get protocolFeatures(): ReadonlySet<VhostUserProtocolFeature> {
    return new Set([...this.#options.protocolFeatures].filter((feature) => this.#channel.has(feature)));
  }
  get reconnectCount(): number {
    return this.#reconnectCount;
  }

  async readDeviceFeatures(): Promise<bigint> {
    return await this.#connection.run((channel) => this.#device.readFeatures(channel));
  }

  async writeDriverFeatures(features: bigint): Promise<void> {
    await this.#inTurn((channel) => this.#device.writeFeatures(channel, features));
  }

  async readStatus(): Promise<number> {
    return await this.#connection.run((channel) => this.#device.readStatus(channel));
  }

  async writeStatus(status: number): Promise<void> {
    await this.#inTurn(async (channel) => {
      if (status === 0) await this.#device.reset(channel);
      else await this.#device.writeStatus(channel, status);
    });
  }

  async readQueueSizeMax(queue: number): Promise<number> {
    return await this.#connection.run(async () =>
      this.#hasQueue(queue) ? this.#options.queueSizeMax(queue) : 0,
    );
  }

  /** `EIO` when the device refuses the ring. */
  async enableQueue(queue: number, addresses: QueueAddresses): Promise<void> {
    this.#requireQueue(queue);
    await this.#inTurn((channel) => this.#device.enableQueue(channel, queue, addresses));
  }

  async resetQueue(queue: number): Promise<void> {
    this.#requireQueue(queue);
    if (!hasFeature(this.#device.status.features, VIRTIO_F_RING_RESET)) {
      throw new TransportError('ENOTSUP', 'VIRTIO_F_RING_RESET was not negotiated');
    }
    await this.#inTurn((channel) => this.#device.resetQueue(channel, queue));
  }

  async readConfigBytes(offset: number, out: Uint8Array): Promise<void> {
    const { config } = this.#options;
    await this.#connection.run((channel) => readConfigSpace(channel, config, offset, out));
  }

  /** The protocol has none: changes that the device told of are counted. */
  async readConfigGeneration(): Promise<number> {
    return await this.#connection.run(async () => this.#generation);
  }

  async writeConfigBytes(offset: number, bytes: Uint8Array): Promise<void> {
    await this.#inTurn((channel) => writeConfigSpace(channel, offset, bytes));
  }

  kick(queue: number): void {
    this.#device.ring(queue)?.kick();
  }

  onCall(queue: number, handler: (() => void) | undefined): void {
    this.#requireQueue(queue);
    this.#calls[queue] = handler;
  }

  onConfigChange(handler: (() => void) | undefined): void {
    this.#teller.onConfigChange(handler);
  }

  onHandOver(handler: HandOverHandler | undefined): void {
    this.#handOver = handler;
  }

  onGone(handler: ((reason: string) => void) | undefined): void {
    this.#teller.onGone(handler);
  }

  async reconnect(withinMs?: number): Promise<void> {
    const { path, reconnect, timeoutMs } = this.#options;
    if (path === undefined) throw new TypeError('Reconnecting needs a path');
    const channel = this.#connection.channel;
    if (channel !== undefined) {
      try {
        await this.#inTurn(() => this.#device.leave(channel, this.#handOver));
      } catch (error) {
        // It ended instead, or does not answer: its rings are as it left them.
        if (!(error instanceof TransportError)) throw error;
      }
    }
    await this.#connection.renew(withinMs ?? reconnect?.withinMs ?? timeoutMs);
  }

  get memorySlotCount(): number {
    return this.#channel.memorySlotCount;
  }

  /** See `MemoryTeller`. */
  async changeMemory(change: (channel: FrontendChannel, pause: Pause) => Promise<void>): Promise<void> {
    await this.#inTurn(async (channel) => {
      if (!channel.isMemoryShared) return;
      await change(channel, (work) => this.#device.whilePaused(channel, this.#handOver, work));
    });
  }

  /**
   * Resets the device if it is there, when what is under way is done and within the time limit of answers; then tells a driver
   * that is still there that the device is gone, and takes its memory away. Never rejects for what the device does.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const { aio, timeoutMs } = this.#options;
    this.#connection.keepLast();
    try {
      if (this.#connection.channel === undefined) return;
      await sleep(
        aio,
        timeoutMs,
        this.#inTurn((channel) => this.#device.reset(channel)),
      );
    } catch (error) {
      if (!(error instanceof TransportError)) throw error;
    } finally {
      await this.#dispose();
    }
  }

  async #inTurn<T>(operation: (channel: FrontendChannel) => Promise<T>): Promise<T> {
    const before = this.#turn;
    const own = (async () => {
      await before;
      return await this.#connection.run(operation);
    })();
    this.#turn = own.catch(() => undefined);
    return await own;
  }

  async #restore(channel: FrontendChannel): Promise<void> {
    if (channel.queueCount < this.#channel.queueCount) {
      throw new TransportError('ENOTSUP', `The device that took over has ${channel.queueCount} queues`);
    }
    await this.#device.restore(channel, this.#handOver);
    this.#channel = channel;
    this.#reconnectCount += 1;
    this.#configChanged();
  }

  #configChanged(): void {
    this.#generation += 1;
    this.#teller.configChanged();
  }

  #hasQueue(queue: number): boolean {
    return Number.isInteger(queue) && queue >= 0 && queue < this.queueCount;
  }

  #requireQueue(queue: number): void {
    if (!this.#hasQueue(queue)) throw new RangeError(`No queue ${queue}`);
  }

  async #dispose(): Promise<void> {
    await this.#connection.close();
    await this.#turn;
    try {
      this.#teller[Symbol.dispose]();
    } finally {
      this.#device[Symbol.dispose]();
    }
  }
}
