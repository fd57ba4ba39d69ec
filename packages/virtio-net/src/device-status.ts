import * as net from '@virtlab/abi/virtio-net';
import type { NetDeviceProfile } from './device-options.ts';
import { RSS_KEY_SIZE_MAX, RSS_TABLE_COUNT_MAX, encodeConfig } from './protocol.ts';
import { HASH_TYPES_ALL } from './receive-hash.ts';

/** What of a device its driver sees in configuration space (§5.1.4): address and status change, the rest does not. */
export class DeviceStatus {
  readonly #profile: NetDeviceProfile;
  #bits: number;
  #mac: Uint8Array;
  #config: Uint8Array;

  constructor(profile: NetDeviceProfile) {
    this.#profile = profile;
    this.#bits = profile.linkUp ? net.VIRTIO_NET_S_LINK_UP : 0;
    this.#mac = profile.mac;
    this.#config = this.#encode();
  }

  get mac(): Uint8Array {
    return this.#mac;
  }

  has(bit: number): boolean {
    return (this.#bits & bit) !== 0;
  }

  /** Sets or clears a bit; false when it was so already. */
  set(bit: number, on: boolean): boolean {
    if (this.has(bit) === on) return false;
    this.#bits ^= bit;
    this.#config = this.#encode();
    return true;
  }

  setMac(mac: Uint8Array): void {
    this.#mac = mac;
    this.#config = this.#encode();
  }

  /** §5.1.9.5.2: after a reset the address is that of the device again; no announcement is due. */
  reset(): void {
    this.#bits &= ~net.VIRTIO_NET_S_ANNOUNCE;
    this.setMac(this.#profile.mac);
  }

  read(offset: number, out: Uint8Array): void {
    const bytes = this.#config.subarray(offset, offset + out.length);
    out.set(bytes);
    out.fill(0, bytes.length);
  }

  #encode(): Uint8Array {
    const { mtu, speed, queuePairs } = this.#profile;
    const isKnown = speed !== net.VIRTIO_NET_SPEED_UNKNOWN;
    return encodeConfig({
      mac: this.#mac,
      mtu,
      status: this.#bits,
      max_virtqueue_pairs: queuePairs,
      speed,
      duplex: isKnown ? net.VIRTIO_NET_DUPLEX_FULL : net.VIRTIO_NET_DUPLEX_UNKNOWN,
      rss_max_key_size: RSS_KEY_SIZE_MAX,
      rss_max_indirection_table_length: RSS_TABLE_COUNT_MAX,
      supported_hash_types: HASH_TYPES_ALL,
    });
  }
}
