import type { FeatureBits } from '@virtlab/abi/brands';
import { hasFeature } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_CONFIG,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_ZONED,
  VIRTIO_BLK_Z_HM,
} from '@virtlab/abi/virtio-blk';
import { type BlkConfig, encodeConfig } from './protocol.ts';

const { offset, width } = VIRTIO_BLK_CONFIG;

/** Configuration space of the device (§5.2.4) as it stands, and the cache mode in it. */
export class DeviceConfig {
  readonly #initial: Uint8Array;
  readonly #bytes: Uint8Array;
  #accepted: FeatureBits | undefined;
  #isWriteThrough = true;

  constructor(fields: Partial<BlkConfig>, size: number) {
    this.#initial = encodeConfig(fields, size);
    this.#bytes = this.#initial.slice();
  }

  get size(): number {
    return this.#bytes.length;
  }

  read(at: number, out: Uint8Array): void {
    const bytes = this.#bytes.subarray(at, at + out.length);
    out.set(bytes);
    out.fill(0, bytes.length);
  }

  /** The one field that a driver may write is `writeback`; anything but 0 there is 1. */
  write(at: number, bytes: Uint8Array): void {
    const value = bytes[offset.writeback - at];
    if (value === undefined || !this.#has(VIRTIO_BLK_F_CONFIG_WCE)) return;
    this.#bytes[offset.writeback] = value === 0 ? 0 : 1;
    this.#updateWriteThrough();
  }

  /** The set that configuration space follows. */
  get accepted(): FeatureBits | undefined {
    return this.#accepted;
  }

  /** Why the set cannot be worked with (§5.2.5.2); else configuration space follows it. */
  accept(features: FeatureBits): string | undefined {
    if (this.#initial[offset.model] === VIRTIO_BLK_Z_HM && !hasFeature(features, VIRTIO_BLK_F_ZONED)) {
      return 'A host-managed zoned disk cannot be driven without VIRTIO_BLK_F_ZONED';
    }
    this.#accepted = features;
    const capacity = this.#bytes.slice(offset.capacity, offset.capacity + width.capacity);
    this.#bytes.set(this.#initial);
    this.#bytes.set(capacity, offset.capacity);
    if (this.#has(VIRTIO_BLK_F_CONFIG_WCE) && !this.#has(VIRTIO_BLK_F_FLUSH))
      this.#bytes[offset.writeback] = 0;
    if (!this.#has(VIRTIO_BLK_F_ZONED)) this.#bytes.fill(0, offset.zone_sectors);
    this.#updateWriteThrough();
    return undefined;
  }

  /** Back to how a driver finds it that has not negotiated anything. The capacity stays. */
  reset(): void {
    const capacity = this.#bytes.slice(offset.capacity, offset.capacity + width.capacity);
    this.#accepted = undefined;
    this.#bytes.set(this.#initial);
    this.#bytes.set(capacity, offset.capacity);
    this.#updateWriteThrough();
  }

  /**
   * §5.2.6.2: a write must be stable when it completes if the cache mode was switched to writethrough, or if the driver has no
   * way to flush.
   */
  get isWriteThrough(): boolean {
    return this.#isWriteThrough;
  }

  setCapacity(sectors: number): void {
    const view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset);
    view.setBigUint64(offset.capacity, BigInt(sectors), true);
  }

  /** After whatever it depends on changed: each write asks for it, and sets of features are no thing for a data path. */
  #updateWriteThrough(): void {
    this.#isWriteThrough = this.#has(VIRTIO_BLK_F_CONFIG_WCE)
      ? this.#bytes[offset.writeback] === 0
      : !this.#has(VIRTIO_BLK_F_FLUSH);
  }

  #has(feature: number): boolean {
    return this.#accepted !== undefined && hasFeature(this.#accepted, feature);
  }
}
