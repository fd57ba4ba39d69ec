import type { FeatureBits } from '@virtlab/abi/brands';
import { hasFeature } from '@virtlab/abi/virtio';
import * as net from '@virtlab/abi/virtio-net';
import * as ctrl from '@virtlab/abi/virtio-net-ctrl';
import type { Coalescing } from './notification-coalescer.ts';
import type { ControlRequests } from './control-requests.ts';
import { NetError } from './errors.ts';
import type { ReceiveModes } from './receive-filter.ts';

/** Receive-side scaling (§5.1.9.5.7). */
export interface RssSettings {
  /** `VIRTIO_NET_RSS_HASH_TYPE_*`. */
  readonly hashTypes: number;
  /** At most as long as the device takes; 40 bytes cover every type. */
  readonly key: Uint8Array;
  /** Pairs by the low bits of the hash: as many as a power of two. */
  readonly table: readonly number[];
  /** Pair for what has no hash. */
  readonly unclassified: number;
  /** Pairs that the driver transmits on. Default: as many as it uses. */
  readonly maxTxPairs?: number;
}

/**
 * What a driver can ask of its device (§5.1.9.5), one request after another in the order of the calls. All reject with
 * `NetError`: `ENOTSUP` when its feature was not negotiated, `EINVAL` when the device refuses, `ETIMEDOUT` when it does not
 * answer in time (no further request is made then), `ENODEV` once the driver has failed.
 */
export interface NetControl {
  setMode(mode: keyof ReceiveModes, on: boolean): Promise<void>;
  /** Addresses that are received beside the card's own and broadcast. */
  setMacTables(unicast: readonly Uint8Array[], multicast: readonly Uint8Array[]): Promise<void>;
  setMac(mac: Uint8Array): Promise<void>;
  addVlan(id: number): Promise<void>;
  removeVlan(id: number): Promise<void>;
  /** The driver does this by itself after its `onAnnounce` handler. */
  acknowledgeAnnounce(): Promise<void>;
  setQueuePairs(count: number): Promise<void>;
  setRss(settings: RssSettings): Promise<void>;
  /** Hashes to be reported, without steering by them; no types end it. */
  setHash(hashTypes: number, key: Uint8Array): Promise<void>;
  /** Of the negotiated `GUEST_*` offloads, those that are on. */
  setGuestOffloads(offloads: FeatureBits): Promise<void>;
  setCoalescing(side: 'rx' | 'tx', settings: Coalescing): Promise<void>;
  setQueueCoalescing(queue: number, settings: Coalescing): Promise<void>;
  queueCoalescing(queue: number): Promise<Coalescing>;
}

const MODE_COMMANDS: Readonly<Record<keyof ReceiveModes, readonly [command: number, feature: number]>> = {
  promiscuous: [ctrl.VIRTIO_NET_CTRL_RX_PROMISC, net.VIRTIO_NET_F_CTRL_RX],
  allMulticast: [ctrl.VIRTIO_NET_CTRL_RX_ALLMULTI, net.VIRTIO_NET_F_CTRL_RX],
  allUnicast: [ctrl.VIRTIO_NET_CTRL_RX_ALLUNI, net.VIRTIO_NET_F_CTRL_RX_EXTRA],
  noMulticast: [ctrl.VIRTIO_NET_CTRL_RX_NOMULTI, net.VIRTIO_NET_F_CTRL_RX_EXTRA],
  noUnicast: [ctrl.VIRTIO_NET_CTRL_RX_NOUNI, net.VIRTIO_NET_F_CTRL_RX_EXTRA],
  noBroadcast: [ctrl.VIRTIO_NET_CTRL_RX_NOBCAST, net.VIRTIO_NET_F_CTRL_RX_EXTRA],
};

export class DriverControl implements NetControl {
  readonly #features: FeatureBits;
  readonly #requests: ControlRequests;
  readonly #pairCount: number;
  readonly #onMac: (mac: Uint8Array) => void;

  constructor(
    features: FeatureBits,
    requests: ControlRequests,
    pairCount: number,
    onMac: (mac: Uint8Array) => void,
  ) {
    this.#features = features;
    this.#requests = requests;
    this.#pairCount = pairCount;
    this.#onMac = onMac;
  }

  async setMode(mode: keyof ReceiveModes, on: boolean): Promise<void> {
    const [command, feature] = MODE_COMMANDS[mode];
    await this.#ask(feature, ctrl.VIRTIO_NET_CTRL_RX, command, Uint8Array.of(on ? 1 : 0));
  }

  async setMacTables(unicast: readonly Uint8Array[], multicast: readonly Uint8Array[]): Promise<void> {
    const data = [unicast, multicast].flatMap((table) => [
      ...le(4, table.length),
      ...table.flatMap((mac) => [...mac]),
    ]);
    const { VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET } = ctrl;
    await this.#ask(
      net.VIRTIO_NET_F_CTRL_RX,
      VIRTIO_NET_CTRL_MAC,
      VIRTIO_NET_CTRL_MAC_TABLE_SET,
      Uint8Array.from(data),
    );
  }

  async setMac(mac: Uint8Array): Promise<void> {
    const copy = mac.slice();
    const { VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET } = ctrl;
    await this.#ask(net.VIRTIO_NET_F_CTRL_MAC_ADDR, VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, copy);
    this.#onMac(copy);
  }

  async addVlan(id: number): Promise<void> {
    await this.#setVlan(ctrl.VIRTIO_NET_CTRL_VLAN_ADD, id);
  }
  async removeVlan(id: number): Promise<void> {
    await this.#setVlan(ctrl.VIRTIO_NET_CTRL_VLAN_DEL, id);
  }

  async acknowledgeAnnounce(): Promise<void> {
    const { VIRTIO_NET_CTRL_ANNOUNCE, VIRTIO_NET_CTRL_ANNOUNCE_ACK } = ctrl;
    const nothing = new Uint8Array();
    await this.#ask(
      net.VIRTIO_NET_F_GUEST_ANNOUNCE,
      VIRTIO_NET_CTRL_ANNOUNCE,
      VIRTIO_NET_CTRL_ANNOUNCE_ACK,
      nothing,
    );
  }

  async setQueuePairs(count: number): Promise<void> {
    const { VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET } = ctrl;
    await this.#ask(net.VIRTIO_NET_F_MQ, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, le(2, count));
  }

  async setRss(settings: RssSettings): Promise<void> {
    const { hashTypes, key, table, unclassified, maxTxPairs = this.#pairCount } = settings;
    const data = [
      ...le(4, hashTypes),
      ...le(2, table.length - 1),
      ...le(2, unclassified),
      ...table.flatMap((pair) => [...le(2, pair)]),
      ...le(2, maxTxPairs),
      ...le(1, key.length),
      ...key,
    ];
    const { VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_RSS_CONFIG } = ctrl;
    await this.#ask(
      net.VIRTIO_NET_F_RSS,
      VIRTIO_NET_CTRL_MQ,
      VIRTIO_NET_CTRL_MQ_RSS_CONFIG,
      Uint8Array.from(data),
    );
  }

  async setHash(hashTypes: number, key: Uint8Array): Promise<void> {
    const reserved = new Uint8Array(ctrl.VIRTIO_NET_HASH_CONFIG.width.reserved);
    const data = Uint8Array.of(...le(4, hashTypes), ...reserved, ...le(1, key.length), ...key);
    const { VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_HASH_CONFIG } = ctrl;
    await this.#ask(net.VIRTIO_NET_F_HASH_REPORT, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_HASH_CONFIG, data);
  }

  async setGuestOffloads(offloads: FeatureBits): Promise<void> {
    const data = new Uint8Array(8);
    new DataView(data.buffer).setBigUint64(0, offloads, true);
    const { VIRTIO_NET_CTRL_GUEST_OFFLOADS: CLASS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET: SET } = ctrl;
    await this.#ask(net.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, CLASS, SET, data);
  }

  async setCoalescing(side: 'rx' | 'tx', settings: Coalescing): Promise<void> {
    const { VIRTIO_NET_CTRL_NOTF_COAL_TX_SET: TX, VIRTIO_NET_CTRL_NOTF_COAL_RX_SET: RX } = ctrl;
    const data = Uint8Array.of(...le(4, settings.maxPackets), ...le(4, settings.maxUsecs));
    await this.#ask(
      net.VIRTIO_NET_F_NOTF_COAL,
      ctrl.VIRTIO_NET_CTRL_NOTF_COAL,
      side === 'tx' ? TX : RX,
      data,
    );
  }

  async setQueueCoalescing(queue: number, { maxPackets, maxUsecs }: Coalescing): Promise<void> {
    const data = Uint8Array.of(...le(2, queue), ...le(2, 0), ...le(4, maxPackets), ...le(4, maxUsecs));
    const { VIRTIO_NET_CTRL_NOTF_COAL, VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET } = ctrl;
    await this.#ask(
      net.VIRTIO_NET_F_VQ_NOTF_COAL,
      VIRTIO_NET_CTRL_NOTF_COAL,
      VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET,
      data,
    );
  }

  async queueCoalescing(queue: number): Promise<Coalescing> {
    const data = Uint8Array.of(...le(2, queue), ...le(2, 0));
    const { VIRTIO_NET_CTRL_NOTF_COAL: CLASS, VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET: GET } = ctrl;
    const answer = await this.#ask(
      net.VIRTIO_NET_F_VQ_NOTF_COAL,
      CLASS,
      GET,
      data,
      ctrl.VIRTIO_NET_CTRL_COAL.size,
    );
    const found = ctrl.VIRTIO_NET_CTRL_COAL.read(new DataView(answer.buffer), 0);
    return { maxPackets: found.max_packets, maxUsecs: found.max_usecs };
  }

  async #setVlan(command: number, id: number): Promise<void> {
    await this.#ask(net.VIRTIO_NET_F_CTRL_VLAN, ctrl.VIRTIO_NET_CTRL_VLAN, command, le(2, id));
  }

  async #ask(
    feature: number,
    controlClass: number,
    command: number,
    data: Uint8Array,
    resultSize: number = 0,
  ): Promise<Uint8Array> {
    if (!hasFeature(this.#features, feature)) {
      throw new NetError('ENOTSUP', `feature bit ${feature} was not negotiated`);
    }
    return await this.#requests.ask(controlClass, command, data, resultSize);
  }
}

function le(size: number, value: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, index) => (value >>> (8 * index)) & 0xff);
}
