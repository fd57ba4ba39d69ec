import { ETHERNET_HEADER_SIZE } from '@virtlab/abi/ethernet';
import type { FeatureBits } from '@virtlab/abi/brands';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { DriverSession } from '@virtlab/virtio';
import type { CardProfile } from './driver-config.ts';
import type { NetDriver, NetDriverStatistics, StuckQueue } from './driver-contract.ts';
import { DriverControl, type NetControl } from './driver-control.ts';
import type { ResolvedDriverOptions } from './driver-options.ts';
import type { FrameHandler } from './driver-receive.ts';
import type { DriverSides } from './driver-sides.ts';
import { collectStatistics } from './driver-statistics.ts';
import { DriverStatus } from './driver-status.ts';
import type { TransmitSide } from './driver-transmit.ts';
import { NetError } from './errors.ts';
import { flowHash } from './flow-table.ts';
import { ACCEPT_ALL, type FrameOffload, OffloadWords, isAcceptedBy } from './frame-offload.ts';
import { isFrameSize, segmentCount } from './frame-size.ts';
import { BytesFrame } from './frame-views.ts';
import type { FrameView } from './network.ts';
import { OffloadCheck } from './offload-check.ts';
import { HEADERS_SIZE_MAX, PacketHeaders } from './packet-headers.ts';
import { type FinishedFrames, SoftwareOffload, type SoftwareOffloadStatistics } from './software-offload.ts';

const NO_SOFTWARE: SoftwareOffloadStatistics = { checksums: 0, segmented: 0, segments: 0, refused: 0 };

/** The driver over a live session. */
export class SessionNetDriver implements NetDriver, FinishedFrames {
  readonly mtu: number;
  readonly frameSizeMax: number;
  readonly features: FeatureBits;
  readonly memory: MemoryRegion;
  readonly control: NetControl | undefined;
  readonly accepts: number;
  readonly #session: DriverSession;
  readonly #sides: DriverSides;
  readonly #status: DriverStatus;
  readonly #wantedPairs: number;
  readonly #check = new OffloadCheck();
  readonly #offload = new OffloadWords();
  readonly #outgoing = new BytesFrame();
  readonly #headerBytes = new Uint8Array(HEADERS_SIZE_MAX);
  readonly #headers = new PacketHeaders();
  #software: SoftwareOffload | undefined;
  /** Where segments go. */
  #side: TransmitSide;
  #mac: Uint8Array;
  #failure: string | undefined;
  #closing: Promise<void> | undefined;

  constructor(
    session: DriverSession,
    profile: CardProfile,
    config: Uint8Array,
    sides: DriverSides,
    options: ResolvedDriverOptions,
  ) {
    this.#mac = profile.mac;
    this.mtu = profile.mtu;
    this.frameSizeMax = profile.mtu + ETHERNET_HEADER_SIZE;
    this.features = session.features;
    this.memory = session.link.dma.memory;
    this.accepts = sides.accepts;
    this.#session = session;
    this.#sides = sides;
    this.#wantedPairs = options.queuePairs;
    this.#side = sides.transmit[0]!;
    if (sides.control !== undefined) {
      const onMac = (mac: Uint8Array): void => void (this.#mac = mac);
      this.control = new DriverControl(session.features, sides.control, sides.transmit.length, onMac);
    }
    session.onBroken((reason) => this.#fail(reason));
    this.#status = new DriverStatus(session, config, this.control);
  }

  /** What the device has to be told before frames flow. */
  async start(): Promise<void> {
    if (this.#wantedPairs > 1 && this.queuePairs > 1) await this.control?.setQueuePairs(this.queuePairs);
  }

  get mac(): Uint8Array {
    return this.#mac;
  }
  get linkUp(): boolean {
    return this.#status.linkUp;
  }
  get failure(): string | undefined {
    return this.#failure;
  }
  get queuePairs(): number {
    return this.#sides.transmit.length;
  }
  get software(): SoftwareOffloadStatistics {
    return this.#software?.statistics ?? NO_SOFTWARE;
  }

  get statistics(): NetDriverStatistics {
    return collectStatistics(this.#sides, this.#session);
  }

  onLinkChange(handler: ((up: boolean) => void) | undefined): void {
    this.#status.linkHandler = handler;
  }
  onAnnounce(handler: (() => void) | undefined): void {
    this.#status.announceHandler = handler;
  }
  onStuck(handler: ((stuck: StuckQueue) => void) | undefined): void {
    this.#sides.stuck.handler = handler;
  }
  onFrame(handler: FrameHandler | undefined, batchEnd?: () => void): void {
    for (const side of this.#sides.receive) side.onFrame(handler, batchEnd);
  }
  onWritable(handler: (() => void) | undefined): void {
    for (const side of this.#sides.transmit) side.onWritable(handler);
  }

  send(frame: Uint8Array, offload?: FrameOffload): boolean {
    this.#requireLive();
    if (offload === undefined) {
      this.#side.requireFrameSize(frame.length);
      return this.#sendFinished(frame);
    }
    const view = this.#outgoing.set(frame);
    const words = this.#offload.copy(offload);
    if (!this.#check.pass(words, view, ACCEPT_ALL)) {
      throw new RangeError(
        `A frame of ${frame.length} bytes cannot be left like this: ${JSON.stringify(offload)}`,
      );
    }
    view.offload = words;
    if (!isFrameSize(view, this.frameSizeMax))
      throw new RangeError(`A frame of ${frame.length} bytes makes none of the MTU's size`);
    return this.sendView(view);
  }

  sendView(frame: FrameView): boolean {
    this.#requireLive();
    if (!isFrameSize(frame, this.frameSizeMax) || !this.#status.linkUp) {
      this.#side.statistics.txDropped += 1;
      return true;
    }
    if (isAcceptedBy(this.accepts, frame.offload)) return this.#sideFor(frame).send(frame);
    const side = this.#sideFor(frame);
    const count = segmentCount(frame);
    if (count > side.bufferCount) {
      side.statistics.txDropped += 1;
      return true;
    }
    if (!side.hasRoom(count)) return false;
    this.#software ??= new SoftwareOffload();
    this.#side = side;
    this.#software.finish(frame, this.accepts, this);
    return true;
  }

  take(segment: FrameView): boolean {
    return this.#side.send(segment);
  }

  isReady(): boolean {
    return this.#failure === undefined && this.#sides.transmit[0]!.hasRoom(1);
  }

  reserve(): number {
    this.#requireLive();
    return this.#sides.transmit[0]!.reserve();
  }

  commit(size: number): void {
    this.#requireLive();
    this.#sides.transmit[0]!.commit(size);
  }

  kick(): void {
    const { transmit } = this.#sides;
    for (let pair = 0; pair < transmit.length; pair += 1) transmit[pair]!.kick();
  }

  async resetQueue(queue: number): Promise<void> {
    const pair = queue >>> 1;
    const isReceive = (queue & 1) === 0;
    const receive = isReceive ? this.#sides.receive[pair] : undefined;
    const transmit = isReceive ? undefined : this.#sides.transmit[pair];
    if (receive === undefined && transmit === undefined)
      throw new RangeError(`${queue} is no queue of frames in use`);
    this.#requireLive();
    transmit?.suspend();
    try {
      await this.#session.resetQueue(queue, {
        onAbandoned: (token) => (receive === undefined ? transmit?.abandon(token) : receive.recycle(token)),
      });
    } finally {
      const fresh = this.#session.queues[queue]!;
      receive?.resume(fresh);
      transmit?.resume(fresh);
    }
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
    for (const side of [...this.#sides.transmit, ...this.#sides.receive]) side.release();
    this.#sides.control?.release();
  }

  #fail(reason: string): void {
    if (this.#failure !== undefined) return;
    this.#failure = reason;
    this.#status.end();
    for (const side of this.#sides.receive) side.onFrame(undefined);
    this.#sides.control?.fail(reason);
    for (const side of this.#sides.transmit) side.fail();
  }

  #requireLive(): void {
    if (this.#failure !== undefined) throw new NetError('ENODEV', this.#failure);
  }

  #sendFinished(frame: Uint8Array): boolean {
    if (!this.#status.linkUp) {
      this.#side.statistics.txDropped += 1;
      return true;
    }
    const { transmit } = this.#sides;
    if (transmit.length === 1) return transmit[0]!.sendBytes(frame);
    return this.#sideFor(this.#outgoing.set(frame)).sendBytes(frame);
  }

  /** §5.1.9.5.6: frames of a flow go out on one queue, and the device answers on the other of its pair. */
  #sideFor(frame: FrameView): TransmitSide {
    const { transmit } = this.#sides;
    if (transmit.length === 1) return transmit[0]!;
    const size = Math.min(frame.size, HEADERS_SIZE_MAX);
    frame.copy(0, size, this.#headerBytes, 0);
    this.#headers.parse(this.#headerBytes, size);
    return transmit[flowHash(this.#headerBytes, this.#headers) % transmit.length]!;
  }
}
