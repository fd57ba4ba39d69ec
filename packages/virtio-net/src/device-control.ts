/** The control queue of the device (§5.1.9.5): requests are copied, checked, done or refused; nothing in between. */
import { ETHERNET_ADDRESS_SIZE, ETHERNET_GROUP_BIT } from '@virtlab/abi/ethernet';
import type { FeatureBits } from '@virtlab/abi/brands';
import { VLAN_ID_MASK } from '@virtlab/abi/internet';
import { hasFeature } from '@virtlab/abi/virtio';
import * as net from '@virtlab/abi/virtio-net';
import * as ctrl from '@virtlab/abi/virtio-net-ctrl';
import type { DeviceActivation } from '@virtlab/virtio';
import type { DescriptorChain } from '@virtlab/vring';
import { type RssConfig, type RssLimits, parseHashConfig, parseRssConfig } from './device-rss.ts';
import type { Coalescing } from './notification-coalescer.ts';
import { isStationAddress } from './protocol.ts';
import { type ReceiveFilter, type ReceiveModes, addressNumber } from './receive-filter.ts';

/** Bytes of the largest request that makes sense; longer ones are refused. */
export const CONTROL_REQUEST_SIZE_MAX = 65_536;

/** What a live device lets its control queue do; each answers false for what cannot be done. */
export interface ControlTarget {
  readonly features: FeatureBits;
  readonly filter: ReceiveFilter;
  readonly rssLimits: RssLimits;
  /** The address changed, and with it the configuration. */
  setMac(mac: Uint8Array): void;
  acknowledgeAnnounce(): boolean;
  setPairs(count: number): boolean;
  setRss(config: RssConfig): boolean;
  setHash(types: number, key: Uint8Array): void;
  setGuestOffloads(offloads: FeatureBits): boolean;
  setCoalescing(side: 'rx' | 'tx', settings: Coalescing): void;
  setQueueCoalescing(queue: number, settings: Coalescing): boolean;
  queueCoalescing(queue: number): Coalescing | undefined;
}

const { VIRTIO_NET_CTRL_HDR: HEADER, VIRTIO_NET_CTRL_ACK_SIZE: ACK_SIZE } = ctrl;

type ModeName = keyof ReceiveModes;
/** By command of class RX; the first two need CTRL_RX, the others CTRL_RX_EXTRA. */
const MODES: readonly ModeName[] = [
  'promiscuous',
  'allMulticast',
  'allUnicast',
  'noMulticast',
  'noUnicast',
  'noBroadcast',
];

/** Requests done and refused, since creation. */
export interface ControlStatistics {
  readonly done: number;
  readonly refused: number;
}

export class ControlQueue {
  readonly statistics = { done: 0, refused: 0 };
  readonly #target: ControlTarget;
  readonly #activation: DeviceActivation;
  readonly #queueIndex: number;

  constructor(activation: DeviceActivation, queueIndex: number, target: ControlTarget) {
    this.#activation = activation;
    this.#queueIndex = queueIndex;
    this.#target = target;
  }

  process(): void {
    const queue = this.#activation.queues[this.#queueIndex];
    if (queue === undefined) return;
    let taken = 0;
    for (; taken < queue.size; taken += 1) {
      const chain = queue.pop();
      if (chain === undefined) break;
      const writtenSize = this.#serve(chain);
      if (writtenSize === 0) return;
      queue.push(chain, writtenSize);
    }
    if (taken > 0) this.#activation.complete(this.#queueIndex);
  }

  /** Bytes written; 0 when the request has no room for a header or an answer, and the device is failing. */
  #serve(chain: DescriptorChain): number {
    const { readableSize, writableSize } = chain;
    if (readableSize < HEADER.size || writableSize < ACK_SIZE) {
      const message =
        `virtio-net control request at head 0x${chain.head.toString(16)} has 0x${readableSize.toString(16)} readable ` +
        `and 0x${writableSize.toString(16)} writable bytes; at least ${HEADER.size} and ${ACK_SIZE} are due`;
      this.#activation.fail({ section: '5.1.9.5', message });
      return 0;
    }
    const result = new Uint8Array(Math.min(writableSize - ACK_SIZE, ctrl.VIRTIO_NET_CTRL_COAL.size));
    const isDone = readableSize <= CONTROL_REQUEST_SIZE_MAX && this.#perform(chain, result);
    if (isDone) this.statistics.done += 1;
    else this.statistics.refused += 1;
    chain.writeU8(0, isDone ? ctrl.VIRTIO_NET_OK : ctrl.VIRTIO_NET_ERR);
    if (!isDone || !isQuery(chain)) return ACK_SIZE;
    chain.write(ACK_SIZE, result);
    return ACK_SIZE + result.length;
  }

  #perform(chain: DescriptorChain, result: Uint8Array): boolean {
    const request = new Uint8Array(chain.readableSize);
    chain.read(0, request);
    const command = request[HEADER.offset.command]!;
    const data = new DataView(request.buffer, HEADER.size);
    const bytes = request.subarray(HEADER.size);
    switch (request[HEADER.offset.class]) {
      case ctrl.VIRTIO_NET_CTRL_RX:
        return this.#setMode(command, bytes);
      case ctrl.VIRTIO_NET_CTRL_MAC:
        return this.#setMac(command, bytes, data);
      case ctrl.VIRTIO_NET_CTRL_VLAN:
        return this.#setVlan(command, data);
      case ctrl.VIRTIO_NET_CTRL_ANNOUNCE:
        return (
          this.#has(net.VIRTIO_NET_F_GUEST_ANNOUNCE) &&
          command === ctrl.VIRTIO_NET_CTRL_ANNOUNCE_ACK &&
          data.byteLength === 0 &&
          this.#target.acknowledgeAnnounce()
        );
      case ctrl.VIRTIO_NET_CTRL_MQ:
        return this.#configurePairs(command, bytes, data);
      case ctrl.VIRTIO_NET_CTRL_GUEST_OFFLOADS:
        return (
          this.#has(net.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) &&
          command === ctrl.VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET &&
          data.byteLength === 8 &&
          this.#target.setGuestOffloads(data.getBigUint64(0, true))
        );
      case ctrl.VIRTIO_NET_CTRL_NOTF_COAL:
        return this.#coalesce(command, data, result);
      default:
        return false;
    }
  }

  /** §5.1.9.5.1. */
  #setMode(command: number, bytes: Uint8Array): boolean {
    const mode = MODES[command];
    const isExtra = command > ctrl.VIRTIO_NET_CTRL_RX_ALLMULTI;
    if (mode === undefined || bytes.length !== 1 || bytes[0]! > 1) return false;
    if (!this.#has(isExtra ? net.VIRTIO_NET_F_CTRL_RX_EXTRA : net.VIRTIO_NET_F_CTRL_RX)) return false;
    this.#target.filter.modes[mode] = bytes[0] === 1;
    return true;
  }

  /** §5.1.9.5.2. */
  #setMac(command: number, bytes: Uint8Array, data: DataView): boolean {
    if (command === ctrl.VIRTIO_NET_CTRL_MAC_ADDR_SET) {
      if (!this.#has(net.VIRTIO_NET_F_CTRL_MAC_ADDR) || !isStationAddress(bytes)) return false;
      this.#target.setMac(bytes);
      return true;
    }
    if (command !== ctrl.VIRTIO_NET_CTRL_MAC_TABLE_SET || !this.#has(net.VIRTIO_NET_F_CTRL_RX)) return false;
    const unicast = readTable(bytes, data, 0, 0);
    if (unicast === undefined) return false;
    const size = ctrl.VIRTIO_NET_CTRL_MAC_TABLE.size + unicast.length * ETHERNET_ADDRESS_SIZE;
    const multicast = readTable(bytes, data, size, ETHERNET_GROUP_BIT);
    if (multicast === undefined) return false;
    const end = size + ctrl.VIRTIO_NET_CTRL_MAC_TABLE.size + multicast.length * ETHERNET_ADDRESS_SIZE;
    if (end !== bytes.length) return false;
    this.#target.filter.setTables(unicast, multicast);
    return true;
  }

  /** §5.1.9.5.3. */
  #setVlan(command: number, data: DataView): boolean {
    if (!this.#has(net.VIRTIO_NET_F_CTRL_VLAN) || data.byteLength !== 2) return false;
    if (command !== ctrl.VIRTIO_NET_CTRL_VLAN_ADD && command !== ctrl.VIRTIO_NET_CTRL_VLAN_DEL) return false;
    const id = data.getUint16(0, true);
    if (id > VLAN_ID_MASK) return false;
    this.#target.filter.setVlan(id, command === ctrl.VIRTIO_NET_CTRL_VLAN_ADD);
    return true;
  }

  /** §5.1.9.5.5 to §5.1.9.5.7. */
  #configurePairs(command: number, bytes: Uint8Array, data: DataView): boolean {
    const target = this.#target;
    switch (command) {
      case ctrl.VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET:
        return (
          this.#has(net.VIRTIO_NET_F_MQ) && data.byteLength === 2 && target.setPairs(data.getUint16(0, true))
        );
      case ctrl.VIRTIO_NET_CTRL_MQ_RSS_CONFIG: {
        if (!this.#has(net.VIRTIO_NET_F_RSS)) return false;
        const config = parseRssConfig(bytes, target.rssLimits);
        return config !== undefined && target.setRss(config);
      }
      case ctrl.VIRTIO_NET_CTRL_MQ_HASH_CONFIG: {
        if (!this.#has(net.VIRTIO_NET_F_HASH_REPORT)) return false;
        const config = parseHashConfig(bytes, target.rssLimits);
        if (config === undefined) return false;
        target.setHash(config.hashTypes, config.key);
        return true;
      }
      default:
        return false;
    }
  }

  /** §5.1.9.5.10. */
  #coalesce(command: number, data: DataView, result: Uint8Array): boolean {
    const isOfQueue = command >= ctrl.VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET;
    if (!this.#has(isOfQueue ? net.VIRTIO_NET_F_VQ_NOTF_COAL : net.VIRTIO_NET_F_NOTF_COAL)) return false;
    const { VIRTIO_NET_CTRL_COAL: SETTINGS, VIRTIO_NET_CTRL_COAL_VQ: OF_QUEUE } = ctrl;
    switch (command) {
      case ctrl.VIRTIO_NET_CTRL_NOTF_COAL_TX_SET:
      case ctrl.VIRTIO_NET_CTRL_NOTF_COAL_RX_SET: {
        if (data.byteLength !== SETTINGS.size) return false;
        const side = command === ctrl.VIRTIO_NET_CTRL_NOTF_COAL_TX_SET ? 'tx' : 'rx';
        this.#target.setCoalescing(side, readSettings(data, 0));
        return true;
      }
      case ctrl.VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET: {
        if (data.byteLength !== OF_QUEUE.size) return false;
        const settings = readSettings(data, OF_QUEUE.offset.max_packets);
        return this.#target.setQueueCoalescing(data.getUint16(OF_QUEUE.offset.vq_index, true), settings);
      }
      case ctrl.VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET: {
        if (data.byteLength !== OF_QUEUE.offset.max_packets || result.length < SETTINGS.size) return false;
        const found = this.#target.queueCoalescing(data.getUint16(OF_QUEUE.offset.vq_index, true));
        if (found === undefined) return false;
        const record = { max_packets: found.maxPackets, max_usecs: found.maxUsecs };
        SETTINGS.write(new DataView(result.buffer), 0, record);
        return true;
      }
      default:
        return false;
    }
  }

  #has(feature: number): boolean {
    return hasFeature(this.#target.features, feature);
  }
}

/** Only this command has a result. */
function isQuery(chain: DescriptorChain): boolean {
  return (
    chain.readU8(HEADER.offset.class) === ctrl.VIRTIO_NET_CTRL_NOTF_COAL &&
    chain.readU8(HEADER.offset.command) === ctrl.VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET
  );
}

function readSettings(data: DataView, at: number): Coalescing {
  const { max_packets, max_usecs } = ctrl.VIRTIO_NET_CTRL_COAL.read(data, at);
  return { maxPackets: max_packets, maxUsecs: max_usecs };
}

/** The addresses of a table, each with the group bit as it is due; undefined for what is no table. */
function readTable(bytes: Uint8Array, data: DataView, at: number, groupBit: number): number[] | undefined {
  const { size } = ctrl.VIRTIO_NET_CTRL_MAC_TABLE;
  if (at + size > bytes.length) return undefined;
  const count = data.getUint32(at, true);
  if (count * ETHERNET_ADDRESS_SIZE > bytes.length - at - size) return undefined;
  const addresses: number[] = [];
  for (let index = 0; index < count; index += 1) {
    const entry = at + size + index * ETHERNET_ADDRESS_SIZE;
    if ((bytes[entry]! & ETHERNET_GROUP_BIT) !== groupBit) return undefined;
    addresses.push(addressNumber(bytes, entry));
  }
  return addresses;
}
