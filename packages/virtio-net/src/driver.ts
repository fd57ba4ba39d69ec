import { ETHERNET_HEADER_SIZE } from '@virtlab/abi/ethernet';
import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_ID_NET } from '@virtlab/abi/virtio';
import type { MemoryRegion } from '@virtlab/guest-memory';
import { type DriverLink, type DriverSession, initializeDevice } from '@virtlab/virtio';
import { type CardProfile, parseCardProfile, parseLink } from './driver-config.ts';
import type { NetDriver, NetDriverStatistics } from './driver-contract.ts';
import {
  type NetDriverOptions,
  type ResolvedDriverOptions,
  planReceive,
  planTransmit,
  resolveDriverOptions,
} from './driver-options.ts';
import { ReceiveSide } from './driver-receive.ts';
import { TransmitSide } from './driver-transmit.ts';
import { NetError } from './errors.ts';
import { QUEUE_COUNT, RECEIVE_QUEUE, TRANSMIT_QUEUE, configSizeFor } from './protocol.ts';

/**
 * Brings up the network device behind `link`, which stays the caller's to dispose.
 *
 * Rejects as `initializeDevice`; with `NetError` `EPROTO` when it is no network device or its configuration makes no sense,
 * `ENOSPC` when the receive buffers do not hold a frame; with `DmaError` when there is no memory for buffers. Nothing
 * stays lent then. Throws `RangeError` for bad options.
 */
export async function createNetDriver(link: DriverLink, options: NetDriverOptions): Promise<NetDriver> {
  const resolved = resolveDriverOptions(options);
  const { deviceType, queueCount } = link.transport;
  if (deviceType !== VIRTIO_ID_NET)
    throw new NetError('EPROTO', `device type ${deviceType} is no network card`);
  if (queueCount < QUEUE_COUNT) throw new NetError('EPROTO', `${queueCount} queues are not ${QUEUE_COUNT}`);
  const session = await initializeDevice(link, {
    aio: resolved.aio,
    wanted: resolved.wanted,
    queueCount: QUEUE_COUNT,
    queueSizeMax: resolved.queueSize,
    timeoutMs: resolved.timeoutMs,
    polling: resolved.polling,
    bufferCountMax: 1,
  });
  try {
    const config = await session.readConfig(0, configSizeFor(session.features));
    const profile = parseCardProfile(config, session.features);
    const sides = createSides(session, profile, resolved);
    return new SessionNetDriver(session, profile, parseLink(config, session.features), sides);
  } catch (error) {
    await session.stop().catch(() => undefined);
    throw error;
  }
}

interface Sides {
  readonly receive: ReceiveSide;
  readonly transmit: TransmitSide;
}

function createSides(session: DriverSession, { mtu }: CardProfile, options: ResolvedDriverOptions): Sides {
  const [receiveQueue, transmitQueue] = session.queues;
  const receivePlan = planReceive(mtu, session.features, receiveQueue!.size, options);
  // First the side whose buffers no device has seen: it can be taken back without a reset.
  const transmitPlan = planTransmit(mtu, transmitQueue!.size);
  const transmit = new TransmitSide(session, transmitPlan, mtu + ETHERNET_HEADER_SIZE);
  try {
    return { transmit, receive: new ReceiveSide(session, receivePlan, mtu) };
  } catch (error) {
    transmit.release();
    throw error;
  }
}

class SessionNetDriver implements NetDriver {
  readonly mac: Uint8Array;
  readonly mtu: number;
  readonly frameSizeMax: number;
  readonly features: FeatureBits;
  readonly memory: MemoryRegion;
  readonly #session: DriverSession;
  readonly #receive: ReceiveSide;
  readonly #transmit: TransmitSide;
  #linkUp: boolean;
  #failure: string | undefined;
  #closing: Promise<void> | undefined;
  #linkHandler: ((up: boolean) => void) | undefined;

  constructor(session: DriverSession, profile: CardProfile, linkUp: boolean, sides: Sides) {
    this.mac = profile.mac;
    this.mtu = profile.mtu;
    this.frameSizeMax = profile.mtu + ETHERNET_HEADER_SIZE;
    this.features = session.features;
    this.memory = session.link.dma.memory;
    this.#session = session;
    this.#receive = sides.receive;
    this.#transmit = sides.transmit;
    this.#linkUp = linkUp;
    session.onBroken((reason) => this.#fail(reason));
    session.onConfigChange(() => void this.#readLink());
  }

  get linkUp(): boolean {
    return this.#linkUp;
  }

  get failure(): string | undefined {
    return this.#failure;
  }

  get statistics(): NetDriverStatistics {
    const receive = this.#session.statistics[RECEIVE_QUEUE]!;
    const transmit = this.#session.statistics[TRANSMIT_QUEUE]!;
    return {
      ...this.#transmit.statistics,
      ...this.#receive.statistics,
      kicks: receive.kicks + transmit.kicks,
      kicksSuppressed: receive.kicksSuppressed + transmit.kicksSuppressed,
      calls: receive.calls + transmit.calls,
      polls: receive.polls + transmit.polls,
    };
  }

  onLinkChange(handler: ((up: boolean) => void) | undefined): void {
    this.#linkHandler = handler;
  }

  onFrame(handler: ((frame: Uint8Array) => void) | undefined): void {
    this.#receive.onFrame(handler);
  }

  onWritable(handler: (() => void) | undefined): void {
    this.#transmit.onWritable(handler);
  }

  send(frame: Uint8Array): boolean {
    this.#requireLive();
    this.#transmit.requireFrameSize(frame.length);
    if (this.#linkUp) return this.#transmit.send(frame);
    this.#transmit.statistics.txDropped += 1;
    return true;
  }

  reserve(): number {
    this.#requireLive();
    return this.#transmit.reserve();
  }

  commit(size: number): void {
    this.#requireLive();
    this.#transmit.commit(size);
  }

  kick(): void {
    this.#transmit.kick();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    this.#fail('driver closed');
    await this.#session.stop();
    this.#transmit.release();
    this.#receive.release();
  }

  #fail(reason: string): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    this.#receive.onFrame(undefined);
    this.#transmit.fail();
  }

  #requireLive(): void {
    if (this.#failure !== undefined) throw new NetError('ENODEV', this.#failure);
  }

  /** A session that cannot be read reports that itself. */
  async #readLink(): Promise<void> {
    let linkUp: boolean;
    try {
      linkUp = parseLink(await this.#session.readConfig(0, configSizeFor(this.features)), this.features);
    } catch {
      return;
    }
    if (linkUp === this.#linkUp || this.#failure !== undefined) return;
    this.#linkUp = linkUp;
    this.#linkHandler?.(linkUp);
  }
}
