/** The other side of the device-hosting role, message by message, as a test wants it. */
import { type FeatureBits } from '@virtlab/abi/brands';
import {
  featureBit,
  featureBits,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
} from '@virtlab/abi/virtio';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import { VHOST_USER_F_PROTOCOL_FEATURES } from '@virtlab/abi/vhost-user';
import { createNodeAioContext, type NodeAioContext } from '@virtlab/aio/node';
import { IdentityDmaMapper, type MemoryRegion, memoryRegion } from '@virtlab/guest-memory';
import {
  EventFd,
  type SharedMapping,
  type UnixStream,
  closeFd,
  mapShared,
  memfdCreate,
} from '@virtlab/linux';
import { DeviceHost, ringFeatures } from '@virtlab/virtio';
import { type DriverQueue, createBufferList, createDriverQueue } from '@virtlab/virtio/testing';
import type { VhostUserBackendEnd, ServeVhostUserOptions } from '../backend-options.ts';
import type { Outcome } from '../fault.ts';
import { REQUESTS, type ReplyPayloads, type RequestPayloads } from '../messages.ts';
import type { DecodeContext } from '../payload-codec.ts';
import type { InflightArea, RegionDescription } from '../payload-memory.ts';
import { type Reply, RequestSender } from '../request-sender.ts';
import { type VhostUserBackend, serveVhostUser } from '../serve.ts';
import { splitVhostUser } from '../split.ts';
import { streamPair } from './channel-pair.ts';
import { HeldDevice } from './held-device.ts';
import { serveMember } from './split-member.ts';

export const BASE_FEATURES: FeatureBits =
  featureBit(VIRTIO_F_VERSION_1) | featureBit(VHOST_USER_F_PROTOCOL_FEATURES);
/** Rings that a suite goes through, by name, with the features that make them so. */
export const RING_FORMATS: readonly (readonly [name: string, features: FeatureBits])[] = [
  ['split', BASE_FEATURES],
  [
    'split, EVENT_IDX, INDIRECT',
    BASE_FEATURES | featureBits(VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC),
  ],
  ['split, IN_ORDER', BASE_FEATURES | featureBit(VIRTIO_F_IN_ORDER)],
  ['packed', BASE_FEATURES | featureBit(VIRTIO_F_RING_PACKED)],
  ['packed, EVENT_IDX', BASE_FEATURES | featureBits(VIRTIO_F_RING_PACKED, VIRTIO_RING_F_EVENT_IDX)],
];
export const MEMORY_SIZE: number = 1 << 20;
/** User addresses are anything: not guest addresses, to find who takes one for the other. */
export const USER_BASE = 0x7f12_3450_0000n;
const PAYLOAD_SIZE = 64;
const TURNS_MAX = 2000;

/** Lets the event loop turn until a condition holds; a failure that says what is missing otherwise. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < TURNS_MAX && !condition(); turn += 1) {
    await new Promise((resolve) => setTimeout(resolve, turn < 100 ? 0 : 2));
  }
  if (!condition()) throw new Error(`Not yet: ${what}`);
}

/** One machine: memory with a driver's rings in it. Outlives connections. */
export class RawMachine implements Disposable {
  readonly fd: number;
  readonly region: MemoryRegion;
  readonly dma: IdentityDmaMapper;
  readonly #mapping: SharedMapping;

  constructor() {
    this.fd = memfdCreate('raw-machine', MEMORY_SIZE);
    this.#mapping = mapShared(this.fd, MEMORY_SIZE);
    this.region = memoryRegion(this.#mapping.buffer);
    this.dma = new IdentityDmaMapper(this.region);
  }

  get description(): RegionDescription {
    return { guestAddress: 0n, size: BigInt(MEMORY_SIZE), userAddress: USER_BASE, mmapOffset: 0n };
  }

  [Symbol.dispose](): void {
    this.#mapping.revoke();
    closeFd(this.fd);
  }
}

/** A driver's half of one ring, and its doorbells. */
export class RawRing implements Disposable {
  readonly index: number;
  readonly queue: DriverQueue;
  readonly kick: EventFd = EventFd.create();
  readonly call: EventFd = EventFd.create();
  readonly error: EventFd = EventFd.create();
  readonly #machine: RawMachine;
  readonly #answerAt = new Map<number, number>();

  constructor(machine: RawMachine, index: number, features: FeatureBits, size = 16) {
    this.index = index;
    this.#machine = machine;
    this.queue = createDriverQueue({ size, dma: machine.dma, features: ringFeatures(features) });
  }

  /** Makes requests available, each with a byte that names it. */
  send(...tags: readonly number[]): void {
    for (const tag of tags) {
      const at = this.#machine.dma.allocate(PAYLOAD_SIZE);
      this.#machine.region.u8[at] = tag;
      const list = createBufferList();
      list.addReadable(at, 8);
      list.addWritable(at + 8, 8);
      if (this.queue.add(list, tag) !== 0) throw new Error(`No room for request ${tag}`);
      this.#answerAt.set(tag, at + 8);
    }
    if (this.queue.needsKick()) this.kick.write();
  }

  /** Requests that came back, with the byte that the device wrote. */
  receive(): { readonly tag: number; readonly answer: number }[] {
    const received = [];
    for (let tag = this.queue.popUsed(); tag >= 0; tag = this.queue.popUsed()) {
      received.push({ tag, answer: this.#machine.region.u8[this.#answerAt.get(tag)!]! });
    }
    return received;
  }

  userAddresses(isLogged = false, logAddress = 0n): RequestPayloads['SET_VRING_ADDR'] {
    const { descriptorArea, driverArea, deviceArea } = this.queue.addresses;
    return {
      index: this.index,
      isLogged,
      logAddress,
      descriptorArea: descriptorArea + USER_BASE,
      driverArea: driverArea + USER_BASE,
      deviceArea: deviceArea + USER_BASE,
    };
  }

  [Symbol.dispose](): void {
    this.kick.close();
    this.call.close();
    this.error.close();
  }
}

/** An in-flight area as the other side keeps it over a crash. */
export interface KeptInflight {
  readonly area: InflightArea;
  readonly fd: number;
}

/** A device that is served, and a connection to it. */
export class RawPeer implements AsyncDisposable {
  /** Sessions that its queues are spread over; 1 is a device that is not split. */
  static memberCount = 1;
  readonly aio: NodeAioContext = createNodeAioContext();
  readonly device: HeldDevice;
  readonly host: DeviceHost;
  readonly backend: VhostUserBackend;
  readonly sender: RequestSender<RequestPayloads, ReplyPayloads>;
  readonly stream: UnixStream;
  context: DecodeContext;

  constructor(options: Partial<ServeVhostUserOptions> & { readonly device?: HeldDevice } = {}) {
    const [ours, theirs] = streamPair();
    this.device = options.device ?? new HeldDevice();
    this.host = new DeviceHost({ device: this.device, aio: this.aio });
    const common = { aio: this.aio, drainTimeoutMs: 200, ...options };
    this.backend =
      RawPeer.memberCount === 1
        ? serveVhostUser(theirs, { ...common, host: this.host })
        : this.#serveSplit(theirs, common);
    this.stream = ours;
    this.context = { queueCount: 256, hasXenMmap: false };
    this.sender = new RequestSender({
      stream: ours,
      table: REQUESTS,
      decodeContext: () => this.context,
      onEnd: () => {},
    });
  }

  #serveSplit(stream: UnixStream, options: Omit<ServeVhostUserOptions, 'host'>): VhostUserBackend {
    const { device, aio, host: primary } = this;
    // Who owns the device is asked once.
    const others = options.setMtu === undefined ? options : { ...options, setMtu: () => true };
    const members = Array.from({ length: RawPeer.memberCount }, (_, index) => {
      const host = index === 0 ? primary : new DeviceHost({ device: device.facet(), aio });
      return serveMember({ ...(index === 0 ? options : others), host });
    });
    const { queueCount, configSize } = primary;
    const { onRefusal = () => {} } = options;
    return splitVhostUser(stream, { members, queueCount, configSize, onRefusal });
  }

  /** A request that has to be done: its reply. */
  async ask<Name extends keyof RequestPayloads & keyof ReplyPayloads>(
    name: Name,
    payload: RequestPayloads[Name],
    ...fds: readonly number[]
  ): Promise<ReplyPayloads[Name]> {
    const outcome = await this.try(name, payload, ...fds);
    if (!outcome.ok) throw new Error(`${name}: ${outcome.fault.message}`);
    outcome.value.fds[Symbol.dispose]();
    return outcome.value.value;
  }

  async try<Name extends keyof RequestPayloads & keyof ReplyPayloads>(
    name: Name,
    payload: RequestPayloads[Name],
    ...fds: readonly number[]
  ): Promise<Outcome<Reply<ReplyPayloads[Name]>>> {
    return await this.sender.request(name, payload, fds);
  }

  /** Features of protocol and device, as QEMU asks them (reference order at realize). */
  async negotiate(features: FeatureBits = BASE_FEATURES, protocol: bigint = ~(1n << 17n)): Promise<void> {
    await this.ask('GET_FEATURES', undefined);
    const offered = await this.ask('GET_PROTOCOL_FEATURES', undefined);
    await this.ask('SET_PROTOCOL_FEATURES', offered & protocol);
    await this.ask('SET_OWNER', undefined);
    await this.ask('SET_FEATURES', features);
  }

  /** For two queues of 16 entries, of the format that was negotiated. */
  async getInflight(): Promise<KeptInflight> {
    const outcome = await this.try('GET_INFLIGHT_FD', { size: 0n, offset: 0n, queueCount: 2, queueSize: 16 });
    if (!outcome.ok) throw new Error(outcome.fault.message);
    return { area: outcome.value.value, fd: outcome.value.fds.take()! };
  }

  async setInflight({ area, fd }: KeptInflight): Promise<void> {
    await this.ask('SET_INFLIGHT_FD', area, fd);
  }

  async setMemory(machine: RawMachine): Promise<void> {
    await this.ask('SET_MEM_TABLE', [machine.description], machine.fd);
  }

  async startRing(ring: RawRing, base = 0): Promise<void> {
    const { index } = ring;
    await this.ask('SET_VRING_CALL', { index, hasFd: true }, ring.call.fd);
    await this.ask('SET_VRING_ERR', { index, hasFd: true }, ring.error.fd);
    await this.ask('SET_VRING_NUM', { index, num: ring.queue.size });
    await this.ask('SET_VRING_BASE', { index, num: base });
    await this.ask('SET_VRING_ADDR', ring.userAddresses());
    await this.ask('SET_VRING_KICK', { index, hasFd: true }, ring.kick.fd);
  }

  async enable(index: number, isEnabled = true): Promise<void> {
    await this.ask('SET_VRING_ENABLE', { index, num: isEnabled ? 1 : 0 });
  }

  async driverOk(): Promise<void> {
    await this.ask('SET_STATUS', 0xfn);
  }

  /** Everything up to a live device with one ring. */
  async bringUp(machine: RawMachine, ring: RawRing, features: FeatureBits = BASE_FEATURES): Promise<void> {
    await this.negotiate(features);
    await this.setMemory(machine);
    await this.startRing(ring, initialBase(features));
    await this.enable(ring.index);
    await this.driverOk();
  }

  async end(): Promise<VhostUserBackendEnd> {
    this.sender.close();
    return await this.backend.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
    this.aio[Symbol.dispose]();
  }
}

/** Where a new ring begins: packed, both wrap counters are 1 (VIRTIO §2.8.1). */
export function initialBase(features: FeatureBits): number {
  return ringFeatures(features).packed === true ? 0x8000_8000 : 0;
}
