/** One connection of the device-hosting role: what the requests change, and the transport that the device sees. */
import { VIRTIO_ID_NET } from '@virtlab/abi/virtio';
import { VHOST_F_LOG_ALL, type VhostUserProtocolFeature } from '@virtlab/abi/vhost-user';
import type { Timer } from '@virtlab/aio';
import type { EventFd } from '@virtlab/linux';
import type { DeviceHost, DeviceTransport } from '@virtlab/virtio';
import type { BackChannel } from './back-channel.ts';
import {
  DRAIN_TIMEOUT_MS_DEFAULT,
  POLL_INTERVAL_MS_DEFAULT,
  type ServeVhostUserOptions,
  offeredProtocolFeatures,
  protocolFeatureBit,
} from './backend-options.ts';
import { DeviceNegotiation } from './device-negotiation.ts';
import type { DirtyLog } from './dirty-log.ts';
import { RingDoorbells } from './doorbells.ts';
import { type ProtocolFault, protocolFault } from './fault.ts';
import type { InflightMemory } from './inflight-area.ts';
import { MemoryTable } from './memory-table.ts';
import type { DecodeContext } from './payload-codec.ts';
import { RingRunner } from './ring-runner.ts';
import type { Vring } from './vring.ts';

const LOG_ALL = 1n << BigInt(VHOST_F_LOG_ALL);

export class HostingSession {
  readonly host: DeviceHost;
  readonly options: ServeVhostUserOptions;
  readonly offeredProtocol: bigint;
  readonly table: MemoryTable;
  readonly vrings: readonly Vring[];
  readonly runner: RingRunner;
  readonly negotiation: DeviceNegotiation;
  readonly transport: DeviceTransport;
  features = 0n;
  protocol = 0n;
  inflight: InflightMemory | undefined = undefined;
  log: DirtyLog | undefined = undefined;
  logEvent: EventFd | undefined = undefined;
  backChannel: BackChannel | undefined = undefined;
  readonly #pollTimer: Timer;
  readonly #pollIntervalMs: number;
  #isEnded = false;
  /** Configuration changed while nothing could be said about it. */
  #isConfigChangeOwed = false;

  constructor(options: ServeVhostUserOptions) {
    const { host, aio } = options;
    this.host = host;
    this.options = options;
    this.offeredProtocol = offeredProtocolFeatures(options);
    const { allowShrink, memorySizeMax } = options;
    this.table = new MemoryTable({ hasXenMmap: options.xen !== undefined, allowShrink, memorySizeMax });
    this.vrings = Array.from({ length: host.queueCount }, (_, index) => this.#createVring(index));
    this.negotiation = new DeviceNegotiation(host);
    this.runner = new RingRunner({
      host,
      table: this.table,
      vrings: this.vrings,
      drainTimeoutMs: options.drainTimeoutMs ?? DRAIN_TIMEOUT_MS_DEFAULT,
      resume: () => this.update(),
      isEnded: () => this.#isEnded,
      surroundings: () => ({ inflight: this.inflight, log: this.isLogging ? this.log : undefined }),
    });
    this.#pollIntervalMs = options.pollIntervalMs ?? POLL_INTERVAL_MS_DEFAULT;
    this.#pollTimer = aio.createTimer(() => this.#poll());
    this.transport = this.#createTransport();
    host.attach(this.transport);
  }

  get decodeContext(): DecodeContext {
    return { queueCount: this.vrings.length, hasXenMmap: this.hasProtocol('XEN_MMAP') };
  }
  /** What GET_QUEUE_NUM says. */
  get queueNum(): number {
    const { queueCount, deviceType } = this.host;
    return (
      this.options.queueNum ?? (deviceType === VIRTIO_ID_NET ? Math.max(1, queueCount >>> 1) : queueCount)
    );
  }
  get isLogging(): boolean {
    return (this.features & LOG_ALL) !== 0n;
  }

  hasProtocol(name: VhostUserProtocolFeature): boolean {
    return (this.protocol & protocolFeatureBit(name)) !== 0n;
  }

  /** Brings queues and device to where the states say they should be. A ring that cannot run keeps nothing else from it. */
  update(): ProtocolFault | undefined {
    if (this.#isEnded) return protocolFault('CLOSED', 'the connection ended meanwhile');
    const fault = this.runner.startAll();
    const isDue = this.hasProtocol('STATUS') ? this.negotiation.isDriverOkWritten : this.runner.isAnyRunning;
    if (isDue) this.negotiation.activate();
    this.updatePolling();
    if (this.#isConfigChangeOwed && this.runner.isAnyRunning) this.#tellConfigChange();
    return fault;
  }

  updatePolling(): void {
    const isPolled = this.vrings.some(({ isRunning, doorbells }) => isRunning && doorbells.isPolled);
    if (isPolled && !this.#pollTimer.armed) this.#pollTimer.arm(this.#pollIntervalMs);
  }

  /** Where writes are marked from now on. */
  updateLog(): void {
    this.table.memory.log = this.isLogging ? this.log : undefined;
  }

  /**
   * Resets the device and gives everything back, the rest also where something of it cannot be: then it rejects. Settles once
   * nothing of the other side's memory is touched.
   */
  async end(): Promise<void> {
    this.#isEnded = true;
    using held = new DisposableStack();
    held.defer(() => this.logEvent?.close());
    held.defer(() => this.log?.revoke());
    held.defer(() => this.inflight?.revoke());
    held.use(this.table);
    held.defer(() => (this.table.memory.log = undefined));
    held.defer(() => this.backChannel?.[Symbol.dispose]());
    this.negotiation.end();
    for (const { doorbells } of this.vrings) doorbells[Symbol.dispose]();
    this.#pollTimer[Symbol.dispose]();
    await this.host.detach();
  }

  #createVring(index: number): Vring {
    return {
      index,
      doorbells: new RingDoorbells(this.options.aio, () => this.host.kick(index)),
      size: 0,
      addresses: undefined,
      base: 0,
      isStarted: false,
      enabling: 'waiting',
      isRunning: false,
      record: undefined,
      left: undefined,
    };
  }

  #createTransport(): DeviceTransport {
    return {
      capabilities: {
        name: 'vhost-user',
        queueReset: false,
        configWrite: true,
        callPerQueue: true,
        queueStart: true,
      },
      transportFeatures: 0n,
      memory: this.table.deviceMemory,
      call: (queue) => this.#call(queue),
      configChanged: () => this.#configChanged(),
      statusChanged: () => {
        this.negotiation.statusChanged();
        if (this.negotiation.needsReset) this.#tellErrors();
      },
    };
  }

  #call(queue: number): void {
    const { doorbells } = this.vrings[queue]!;
    if (doorbells.hasCall) doorbells.call();
    else if (this.hasProtocol('INBAND_NOTIFICATIONS')) this.backChannel?.call(queue);
  }

  #tellErrors(): void {
    for (const { index, isRunning, doorbells } of this.vrings) {
      if (!isRunning) continue;
      if (doorbells.hasError) doorbells.error();
      else if (this.hasProtocol('INBAND_NOTIFICATIONS')) this.backChannel?.error(index);
    }
  }

  /** A suspended device sends nothing ("Suspended device state"). */
  #configChanged(): void {
    if (this.runner.isAnyRunning) this.#tellConfigChange();
    else this.#isConfigChangeOwed = true;
  }

  #tellConfigChange(): void {
    this.#isConfigChangeOwed = false;
    if (this.hasProtocol('CONFIG')) this.backChannel?.configChanged();
  }

  #poll(): void {
    let isPolled = false;
    for (const { index, isRunning, doorbells } of this.vrings) {
      if (!isRunning || !doorbells.isPolled) continue;
      isPolled = true;
      this.host.kick(index);
    }
    if (isPolled) this.#pollTimer.arm(this.#pollIntervalMs);
  }
}
