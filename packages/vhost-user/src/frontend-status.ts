/** The device status as a driver over vhost-user sees it: kept here, and the device's own where it has one (STATUS). */
import {
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_VERSION_1,
  hasFeature,
} from '@virtlab/abi/virtio';
import { advanceStatus } from '@virtlab/virtio';

const STATUS_MAX = 0xff;

export class FrontendStatus {
  /** Bits in force by the rules of §3.1.1. */
  value = 0;
  /** What the driver accepted, of `offered`. */
  features = 0n;
  offered = 0n;
  /** The device would not take the features. */
  isRefused = false;

  has(bit: number): boolean {
    return (this.value & bit) !== 0;
  }

  /** The features are fixed (§3.1.1). */
  get isFixed(): boolean {
    return this.has(VIRTIO_CONFIG_S_FEATURES_OK);
  }

  /** What the status becomes when the driver writes `written`. */
  after(written: number): number {
    let next = this.value;
    const steps = { featuresOk: () => this.isAcceptable, driverOk: () => {}, failed: () => {} };
    advanceStatus(this.value, written, steps, (bit) => (next |= bit));
    return next;
  }

  needReset(): void {
    if (this.value !== 0) this.value |= VIRTIO_CONFIG_S_NEEDS_RESET;
  }

  /** What the driver reads where the device says `own`: both must have a bit, but each can need a reset. */
  merged(own: number): number {
    return (own & this.value) | ((own | this.value) & VIRTIO_CONFIG_S_NEEDS_RESET);
  }

  reset(): void {
    this.value = 0;
    this.features = 0n;
    this.isRefused = false;
  }

  /** §2.2.2; a legacy interface is not part of the protocol. */
  get isAcceptable(): boolean {
    const isOffered = (this.features & ~this.offered) === 0n;
    return isOffered && !this.isRefused && hasFeature(this.features, VIRTIO_F_VERSION_1);
  }
}

/** Whether a status word of a device can be one (§2.1: 8 bits). */
export function isStatus(word: bigint): boolean {
  return word <= BigInt(STATUS_MAX);
}
