/**
 * A live device as its driver holds it: queues, doorbells with suppression, configuration, and the end of it all.
 * Made by `initializeDevice`.
 */
import type { FeatureBits } from '@virtlab/abi/brands';
import type { AioContext } from '@virtlab/aio';
import {
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_RING_RESET,
  hasFeature,
} from '@virtlab/abi/virtio';
import type { DriverQueue } from '@virtlab/vring';
import { CallService, type DriverQueueStatistics } from './call-service.ts';
import { readConfig } from './config.ts';
import { TransportError, type DriverLink, type DriverTransport } from './contract.ts';
import { withDeadline } from './deadline.ts';
import type { GoneWatch } from './gone-watch.ts';

export interface DriverSessionOptions {
  readonly link: DriverLink;
  readonly aio: AioContext;
  readonly features: FeatureBits;
  readonly queues: DriverQueue[];
  /** A new ring, as those of the bring-up were made. */
  readonly createQueue: (size: number) => DriverQueue;
  readonly gone: GoneWatch;
  readonly timeoutMs: number;
  readonly polling: boolean;
}

/**
 *     live ──NEEDS_RESET, ring violation, device gone──▶ broken
 *       └──────────────── stop() ──────────────┬───────────┘
 *                                              ▼
 *                                           stopped
 *
 * `onBroken` runs once, from the loop. By then all queues are marked broken: `add` and `popUsed` give nothing, and
 * what was in flight will not complete. The driver fails it and calls `stop`.
 */
export class DriverSession implements AsyncDisposable {
  readonly features: FeatureBits;
  /** By index; `resetQueue` puts another object in its place. */
  readonly queues: readonly DriverQueue[];
  readonly link: DriverLink;
  readonly #options: DriverSessionOptions;
  readonly #transport: DriverTransport;
  readonly #calls: CallService;
  readonly #hasKickData: boolean;
  #broken: string | undefined;
  #stopping: Promise<void> | undefined;
  #isReadingStatus = false;
  #isStatusStale = false;
  #brokenHandler: ((reason: string) => void) | undefined;
  #configHandler: (() => void) | undefined;

  constructor(options: DriverSessionOptions) {
    this.features = options.features;
    this.queues = options.queues;
    this.link = options.link;
    this.#options = options;
    this.#transport = options.link.transport;
    this.#hasKickData = hasFeature(options.features, VIRTIO_F_NOTIFICATION_DATA);
    this.#calls = new CallService(options.aio, options.queues, options.polling, (queue) => {
      const { violation } = options.queues[queue]!;
      this.#break(`queue ${queue}: §${violation?.section} ${violation?.message}`);
    });
    for (let queue = 0; queue < options.queues.length; queue += 1) {
      this.#transport.onCall(queue, () => this.#calls.called(queue));
    }
    this.#transport.onConfigChange(() => this.#checkStatus());
    this.#transport.onHandOver?.((queue, again) =>
      this.#isLive() ? this.queues[queue]?.handOver(again) : undefined,
    );
    options.gone.onGone((reason) => this.#break(`device gone: ${reason}`));
  }

  /** Why nothing completes any more, once that is so. */
  get broken(): string | undefined {
    return this.#broken;
  }

  /** By queue. */
  get statistics(): readonly DriverQueueStatistics[] {
    return this.#calls.statistics;
  }

  /** Publishes what was added to the queue and kicks if the device asked for it. Never suspends. */
  kick(queue: number): void {
    const ring = this.queues[queue];
    if (ring === undefined) throw new RangeError(`No queue ${queue}`);
    if (!this.#isLive() || this.#calls.isSuspended(queue)) return;
    if (!this.#calls.needsKick(queue, ring)) return;
    if (this.#hasKickData) this.#transport.kick(queue, ring.kickData);
    else this.#transport.kick(queue);
  }

  /**
   * Looks at every queue once and runs the handlers of those with used buffers: for code that waits without the loop.
   * Answers whether there were any.
   */
  poll(): boolean {
    return this.#calls.poll();
  }

  /**
   * `handler` runs on calls and when polling finds used buffers. It must pop until there are none. It may run with none
   * there. Undefined removes it.
   */
  onCall(queue: number, handler: (() => void) | undefined): void {
    if (this.queues[queue] === undefined) throw new RangeError(`No queue ${queue}`);
    this.#calls.setHandler(queue, handler);
  }

  /** The device's configuration may have changed; re-read what matters. */
  onConfigChange(handler: (() => void) | undefined): void {
    this.#configHandler = handler;
  }

  /** At most one handler. Runs at once (in a microtask) when the session is broken already. */
  onBroken(handler: ((reason: string) => void) | undefined): void {
    this.#brokenHandler = handler;
    const reason = this.#broken;
    if (reason === undefined || handler === undefined) return;
    queueMicrotask(() => {
      if (this.#brokenHandler === handler) handler(reason);
    });
  }

  /** Bytes of one generation. Rejects with `TransportError`. */
  async readConfig(offset: number, size: number): Promise<Uint8Array> {
    return await this.#control('Reading the configuration', () => readConfig(this.#transport, offset, size));
  }

  async writeConfig(offset: number, bytes: Uint8Array): Promise<void> {
    await this.#control('Writing the configuration', () => this.#transport.writeConfigBytes(offset, bytes));
  }

  /**
   * Resets one queue alone (§2.6.1) and enables a new ring in its place, of `size` entries or as many as before. What was
   * in flight is given to `onAbandoned`; the queue's call handler stays and runs once. Until it resolves nothing may be
   * added to the queue. Rejects with `TransportError`: `ENOTSUP` when VIRTIO_F_RING_RESET was not negotiated (nothing
   * happened then), else the session is broken.
   */
  async resetQueue(
    queue: number,
    options: { readonly size?: number; readonly onAbandoned?: (token: number) => void } = {},
  ): Promise<DriverQueue> {
    const ring = this.queues[queue];
    if (ring === undefined) throw new RangeError(`No queue ${queue}`);
    if (this.#calls.isSuspended(queue)) throw new TypeError(`Queue ${queue} is being reset`);
    if (!hasFeature(this.features, VIRTIO_F_RING_RESET)) {
      throw new TransportError('ENOTSUP', 'VIRTIO_F_RING_RESET was not negotiated');
    }
    this.#calls.suspend(queue);
    try {
      await this.#control(`Resetting queue ${queue}`, () => this.#transport.resetQueue(queue));
      this.#checkLive();
      ring.release(options.onAbandoned);
      const fresh = this.#options.createQueue(options.size ?? ring.size);
      this.#options.queues[queue] = fresh;
      await this.#control(`Enabling queue ${queue}`, () =>
        this.#transport.enableQueue(queue, fresh.addresses),
      );
      this.#checkLive();
      this.#calls.resume(queue);
      return fresh;
    } catch (error) {
      this.#break(error instanceof Error ? error.message : String(error));
      throw error;
    }
  }

  /**
   * Resets the device, then takes its memory back; `onAbandoned` is given what was in flight. Idempotent.
   *
   * Rejects with `TransportError` when the device did not confirm the reset and is not gone either. Its queues then
   * stay lent for good: it may still write to them.
   */
  stop(onAbandoned?: (queue: number, token: number) => void): Promise<void> {
    this.#stopping ??= this.#stop(onAbandoned);
    return this.#stopping;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #stop(onAbandoned?: (queue: number, token: number) => void): Promise<void> {
    this.#calls.stop();
    const { aio, timeoutMs, gone } = this.#options;
    await withDeadline(aio, timeoutMs, 'Reset', gone.reset());
    this.#broken ??= 'stopped';
    this.#brokenHandler = undefined;
    for (let queue = 0; queue < this.queues.length; queue += 1) this.#transport.onCall(queue, undefined);
    this.#transport.onConfigChange(undefined);
    this.#transport.onHandOver?.(undefined);
    gone.stop();
    this.queues.forEach((ring, queue) => ring.release((token) => onAbandoned?.(queue, token)));
  }

  #isLive(): boolean {
    return this.#broken === undefined && this.#stopping === undefined;
  }
  #checkLive(): void {
    if (!this.#isLive()) throw new TransportError('ENODEV', this.#broken ?? 'stopping');
  }

  async #control<T>(what: string, start: () => Promise<T>): Promise<T> {
    if (this.#broken !== undefined) throw new TransportError('ENODEV', this.#broken);
    return await withDeadline(this.#options.aio, this.#options.timeoutMs, what, start());
  }

  /** §2.1.2: a configuration change may mean NEEDS_RESET; one read at a time answers any number of changes. */
  #checkStatus(): void {
    this.#isStatusStale = true;
    if (!this.#isReadingStatus) void this.#readStatus();
  }

  async #readStatus(): Promise<void> {
    this.#isReadingStatus = true;
    while (this.#isStatusStale && this.#isLive()) {
      this.#isStatusStale = false;
      try {
        const status = await this.#control('Reading the status', () => this.#transport.readStatus());
        if ((status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0) this.#break('device needs reset');
      } catch (error) {
        this.#break(error instanceof Error ? error.message : String(error));
      }
    }
    this.#isReadingStatus = false;
    if (this.#isLive()) this.#configHandler?.();
  }

  #break(reason: string): void {
    if (!this.#isLive()) return;
    this.#broken = reason;
    this.#calls.stop();
    for (const ring of this.queues) ring.markBroken({ section: '2.1.2', message: reason });
    this.#brokenHandler?.(reason);
  }
}
