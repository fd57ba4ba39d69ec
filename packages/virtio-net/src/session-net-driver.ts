import { ETHERNET_HEADER_SIZE } from '@virtlab/abi/ethernet';
import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_NET_HDR_GSO_NONE } from '@virtlab/abi/virtio-net';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { DriverSession } from '@virtlab/virtio';
import { type CardProfile, parseAnnounce, parseLink } from './driver-config.ts';
import type { NetDriver, NetDriverStatistics, StuckQueue } from './driver-contract.ts';
import { DriverControl, type NetControl } from './driver-control.ts';
import type { ResolvedDriverOptions } from './driver-options.ts';
import type { FrameHandler } from './driver-receive.ts';
import type { DriverSides } from './driver-sides.ts';
import type { TransmitSide } from './driver-transmit.ts';
import { NetError } from './errors.ts';
import { flowHash } from './flow-table.ts';
import { ACCEPT_ALL, type FrameOffload, OffloadWords, isAcceptedBy } from './frame-offload.ts';
import { BytesFrame } from './frame-views.ts';
import type { FrameView } from './network.ts';
import { OffloadCheck } from './offload-check.ts';
import { HEADERS_SIZE_MAX, PacketHeaders } from './packet-headers.ts';
import { UNFINISHED_FRAME_SIZE_MAX, configSizeFor } from './protocol.ts';
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
  #linkUp: boolean;
  #isAnnouncing = false;
  #failure: string | undefined;
  #closing: Promise<void> | undefined;
  #linkHandler: ((up: boolean) => void) | undefined;
  #announceHandler: (() => void) | undefined;

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
    this.#linkUp = parseLink(config, session.features);
    if (sides.control !== undefined) {
      const onMac = (mac: Uint8Array): void => void (this.#mac = mac);
      this.control = new DriverControl(session.features, sides.control, sides.transmit.length, onMac);
    }
    session.onBroken((reason) => this.#fail(reason));
    session.onConfigChange(() => void this.#readStatus());
  }

  /** What the device has to be told before frames flow. */
  async start(): Promise<void> {
    if (this.#wantedPairs > 1 && this.queuePairs > 1) await this.control?.setQueuePairs(this.queuePairs);
  }

  get mac(): Uint8Array {
    return this.#mac;
  }
  get linkUp(): boolean {
    return this.#linkUp;
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
    const { receive, transmit } = this.#sides;
    const queues = this.#session.statistics;
    const sum = <T>(items: readonly T[], of: (item: T) => number): number =>
      items.reduce((total, item) => total + of(item), 0);
    return {
      txFrames: sum(transmit, ({ statistics }) => statistics.txFrames),
      txBytes: sum(transmit, ({ statistics }) => statistics.txBytes),
      txDropped: sum(transmit, ({ statistics }) => statistics.txDropped),
      txTimeouts: sum(transmit, ({ statistics }) => statistics.txTimeouts),
      rxFrames: sum(receive, ({ statistics }) => statistics.rxFrames),
      rxBytes: sum(receive, ({ statistics }) => statistics.rxBytes),
      rxDropped: sum(receive, ({ statistics }) => statistics.rxDropped),
      kicks: sum(queues, ({ kicks }) => kicks),
      kicksSuppressed: sum(queues, ({ kicksSuppressed }) => kicksSuppressed),
      calls: sum(queues, ({ calls }) => calls),
      polls: sum(queues, ({ polls }) => polls),
    };
  }

  onLinkChange(handler: ((up: boolean) => void) | undefined): void {
    this.#linkHandler = handler;
  }
  onAnnounce(handler: (() => void) | undefined): void {
    this.#announceHandler = handler;
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
    if (!this.#isSize(view))
      throw new RangeError(`A frame of ${frame.length} bytes makes none of the MTU's size`);
    return this.sendView(view);
  }

  sendView(frame: FrameView): boolean {
    this.#requireLive();
    if (!this.#isSize(frame) || !this.#linkUp) {
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
    for (const side of this.#sides.receive) side.onFrame(undefined);
    this.#sides.control?.fail(reason);
    for (const side of this.#sides.transmit) side.fail();
  }

  #requireLive(): void {
    if (this.#failure !== undefined) throw new NetError('ENODEV', this.#failure);
  }

  #sendFinished(frame: Uint8Array): boolean {
    if (!this.#linkUp) {
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

  #isSize({ size, offload }: FrameView): boolean {
    if (size < ETHERNET_HEADER_SIZE) return false;
    if (offload.gsoType === VIRTIO_NET_HDR_GSO_NONE) return size <= this.frameSizeMax;
    return size <= UNFINISHED_FRAME_SIZE_MAX && offload.hdrLen + offload.gsoSize <= this.frameSizeMax;
  }

  /** A session that cannot be read reports that itself. */
  async #readStatus(): Promise<void> {
    let linkUp: boolean;
    let isAnnounced: boolean;
    try {
      const config = await this.#session.readConfig(0, configSizeFor(this.features));
      linkUp = parseLink(config, this.features);
      isAnnounced = parseAnnounce(config);
    } catch {
      return;
    }
    if (this.#failure !== undefined) return;
    if (isAnnounced) void this.#announce();
    if (linkUp === this.#linkUp) return;
    this.#linkUp = linkUp;
    this.#linkHandler?.(linkUp);
  }

  /** §5.1.9.5.4: first the announcement, then the acknowledgement. Without the feature the bit means nothing. */
  async #announce(): Promise<void> {
    if (this.#isAnnouncing) return;
    this.#isAnnouncing = true;
    this.#announceHandler?.();
    try {
      await this.control?.acknowledgeAnnounce();
    } catch (error) {
      if (!(error instanceof NetError)) throw error; // the device asks again, or is gone
    } finally {
      this.#isAnnouncing = false;
    }
  }
}

function segmentCount({ size, offload }: FrameView): number {
  if (offload.gsoType === VIRTIO_NET_HDR_GSO_NONE) return 1;
  return Math.ceil((size - offload.hdrLen) / offload.gsoSize);
}
