import { VIRTIO_NET_S_ANNOUNCE } from '@virtlab/abi/virtio-net';
import type { FeatureBits } from '@virtlab/abi/brands';
import { featureBit, hasFeature } from '@virtlab/abi/virtio';
import * as net from '@virtlab/abi/virtio-net';
import type { DeviceActivation } from '@virtlab/virtio';
import { ControlQueue, type ControlTarget } from './device-control.ts';
import { type NetDeviceProfile, controlQueueIndex } from './device-options.ts';
import { DeviceReceiver } from './device-receive.ts';
import type { RssConfig, RssLimits } from './device-rss.ts';
import { DeviceTransmitter, type PacketSink } from './device-transmit.ts';
import { acceptedByDevice, acceptedByDriver } from './frame-offload.ts';
import type { Coalescing, NotificationCoalescer } from './notification-coalescer.ts';
import { RSS_KEY_SIZE_MAX, RSS_TABLE_COUNT_MAX, hasPairs, netHeaderSize } from './protocol.ts';
import { HASH_TYPES_ALL } from './receive-hash.ts';
import { ReceiveFilter } from './receive-filter.ts';
import { ReceiveSteering } from './receive-steering.ts';

/** What the rest of the device has to hear of. */
export interface LiveDeviceEvents extends PacketSink {
  macChanged(mac: Uint8Array): void;
  /** Clears a status bit; false when it was clear. */
  clearStatus(bit: number): boolean;
  acceptChanged(accept: number): void;
  /** Filters or steering may be others: see `isSimple`. */
  rulesChanged(): void;
}

const GUEST_OFFLOAD_BITS: FeatureBits = [
  net.VIRTIO_NET_F_GUEST_CSUM,
  net.VIRTIO_NET_F_GUEST_TSO4,
  net.VIRTIO_NET_F_GUEST_TSO6,
  net.VIRTIO_NET_F_GUEST_ECN,
  net.VIRTIO_NET_F_GUEST_USO4,
  net.VIRTIO_NET_F_GUEST_USO6,
].reduce((bits, bit) => bits | featureBit(bit), 0n as FeatureBits);

/** Everything of a device that lives from DRIVER_OK to reset: queues, filters, steering, and what its control queue changes. */
export class LiveDevice implements ControlTarget {
  readonly features: FeatureBits;
  readonly headerSize: number;
  readonly activation: DeviceActivation;
  readonly filter: ReceiveFilter;
  readonly steering: ReceiveSteering = new ReceiveSteering();
  readonly rssLimits: RssLimits;
  readonly receivers: readonly DeviceReceiver[];
  readonly transmitters: readonly DeviceTransmitter[];
  readonly control: ControlQueue | undefined;
  /** What the driver may leave undone. */
  readonly acceptFromDriver: number;
  /** What the driver takes unfinished. */
  accept: number;
  /** The pairs in use are those whose receive queues are enabled. */
  readonly usesEnabledPairs: boolean;
  readonly #controlIndex: number;
  readonly #events: LiveDeviceEvents;

  constructor(activation: DeviceActivation, profile: NetDeviceProfile, events: LiveDeviceEvents) {
    const { features } = activation;
    const has = (bit: number): boolean => hasFeature(features, bit);
    const pairCount = hasPairs(features) ? profile.queuePairs : 1;
    this.activation = activation;
    this.features = features;
    this.headerSize = netHeaderSize(features);
    this.#events = events;
    this.filter = new ReceiveFilter(profile.mac, has(net.VIRTIO_NET_F_CTRL_VLAN));
    this.rssLimits = {
      hashTypes: HASH_TYPES_ALL,
      keySizeMax: RSS_KEY_SIZE_MAX,
      tableCountMax: RSS_TABLE_COUNT_MAX,
      pairCount,
    };
    const format = {
      headerSize: this.headerSize,
      isMerging: has(net.VIRTIO_NET_F_MRG_RXBUF),
      hasFlags: has(net.VIRTIO_NET_F_GUEST_CSUM),
    };
    const pairs = Array.from({ length: pairCount }, (_, pair) => pair);
    this.receivers = pairs.map(
      (pair) => new DeviceReceiver(activation, net.virtioNetReceiveQueue(pair), format),
    );
    this.transmitters = pairs.map(
      (pair) => new DeviceTransmitter(activation, net.virtioNetTransmitQueue(pair), profile.transmit, events),
    );
    this.#controlIndex = has(net.VIRTIO_NET_F_CTRL_VQ) ? controlQueueIndex(features, profile.queuePairs) : -1;
    this.control =
      this.#controlIndex < 0 ? undefined : new ControlQueue(activation, this.#controlIndex, this);
    this.usesEnabledPairs = profile.controlElsewhere && pairCount > 1;
    if (this.usesEnabledPairs) this.#followQueues();
    this.acceptFromDriver = acceptedByDevice(features);
    this.accept = acceptedByDriver(features);
  }

  /** Every frame passes the filter and goes to the first pair, without a hash. */
  get isSimple(): boolean {
    return this.filter.isOpen && this.steering.isTrivial;
  }

  /** Whether the queue is one to receive on. */
  process(queueIndex: number): boolean {
    if (queueIndex === this.#controlIndex) {
      this.control?.process();
      this.#events.rulesChanged();
      return false;
    }
    if ((queueIndex & 1) === 0) {
      if (this.usesEnabledPairs) this.#followQueues();
      return true;
    }
    this.transmitters[queueIndex >>> 1]?.look();
    return false;
  }

  resetQueue(queueIndex: number): void {
    if (queueIndex === this.#controlIndex) return;
    const pair = queueIndex >>> 1;
    if ((queueIndex & 1) === 0) this.receivers[pair]?.stop();
    else this.transmitters[pair]?.stop();
    if (this.usesEnabledPairs) this.#followQueues(queueIndex);
  }

  dispose(): void {
    for (const receiver of this.receivers) receiver.coalescer.dispose();
    for (const transmitter of this.transmitters) transmitter.dispose();
  }

  setMac(mac: Uint8Array): void {
    this.filter.setMac(mac);
    this.#events.macChanged(this.filter.mac);
  }

  acknowledgeAnnounce(): boolean {
    return this.#events.clearStatus(VIRTIO_NET_S_ANNOUNCE);
  }

  /** §5.1.9.5.5: the queues must exist, and a device MUST NOT use receive queues beyond. */
  setPairs(count: number): boolean {
    if (count < 1 || count > this.receivers.length) return false;
    const { queues } = this.activation;
    for (let pair = 0; pair < count; pair += 1) {
      if (queues[net.virtioNetReceiveQueue(pair)] === undefined) return false;
    }
    this.steering.setPairs(count);
    return true;
  }

  /** Uses the pairs up to the first whose receive queue is not there, or is `stopping`. */
  #followQueues(stopping = -1): void {
    const { queues } = this.activation;
    let count = 0;
    for (; count < this.receivers.length; count += 1) {
      const index = net.virtioNetReceiveQueue(count);
      if (queues[index] === undefined || index === stopping) break;
    }
    const used = Math.max(1, count);
    if (used !== this.steering.pairCount) this.steering.setPairs(used);
  }

  setRss(config: RssConfig): boolean {
    const { queues } = this.activation;
    const isThere = (pair: number): boolean => queues[net.virtioNetReceiveQueue(pair)] !== undefined;
    if (![config.unclassified, ...config.table].every(isThere)) return false;
    this.steering.setRss(config);
    return true;
  }

  setHash(hashTypes: number, key: Uint8Array): void {
    this.steering.setHash({ hashTypes, key });
  }

  /** §5.1.9.5.9: of what was negotiated, and with what it needs. */
  setGuestOffloads(offloads: FeatureBits): boolean {
    if ((offloads & ~(this.features & GUEST_OFFLOAD_BITS)) !== 0n) return false;
    if (offloads !== 0n && !hasFeature(offloads, net.VIRTIO_NET_F_GUEST_CSUM)) return false;
    this.accept = acceptedByDriver(offloads);
    this.#events.acceptChanged(this.accept);
    return true;
  }

  setCoalescing(side: 'rx' | 'tx', settings: Coalescing): void {
    for (const { coalescer } of side === 'rx' ? this.receivers : this.transmitters) coalescer.set(settings);
  }

  setQueueCoalescing(queue: number, settings: Coalescing): boolean {
    const coalescer = this.#coalescerOf(queue);
    coalescer?.set(settings);
    return coalescer !== undefined;
  }

  queueCoalescing(queue: number): Coalescing | undefined {
    return this.#coalescerOf(queue)?.settings ?? undefined;
  }

  #coalescerOf(queue: number): NotificationCoalescer | undefined {
    if (queue === this.#controlIndex || this.activation.queues[queue] === undefined) return undefined;
    const side = (queue & 1) === 0 ? this.receivers : this.transmitters;
    return side[queue >>> 1]?.coalescer;
  }
}
