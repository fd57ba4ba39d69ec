/**
 * Features and status of a device that is reached through vhost-user, where the status machine of VIRTIO §2.1 is half
 * visible: a peer without STATUS never writes one, one with it may skip the steps that its own driver took elsewhere.
 */
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_VERSION_1,
  featureBit,
  hasFeature,
} from '@virtlab/abi/virtio';
import type { FeatureBits } from '@virtlab/abi/brands';
import { VHOST_F_LOG_ALL, VHOST_USER_F_PROTOCOL_FEATURES } from '@virtlab/abi/vhost-user';
import type { DeviceHost } from '@virtlab/virtio';
import { type ProtocolFault, hex, protocolFault } from './fault.ts';

/** Bits of the feature set that are the protocol's own, not the device's. */
const OWN_BITS: FeatureBits = featureBit(VHOST_USER_F_PROTOCOL_FEATURES) | featureBit(VHOST_F_LOG_ALL);
const UP_TO_DRIVER = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
const UP_TO_FEATURES_OK = UP_TO_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK;

export class DeviceNegotiation {
  readonly #host: DeviceHost;
  /** As the other side wrote it. */
  #written = 0;
  #resetWaiters: (() => void)[] = [];
  /** The device is somebody else's by now, or will be. */
  #isEnded = false;

  constructor(host: DeviceHost) {
    this.#host = host;
  }

  get offered(): FeatureBits {
    return this.#host.deviceFeatures | OWN_BITS;
  }
  get isConfigured(): boolean {
    return (this.#host.status & VIRTIO_CONFIG_S_FEATURES_OK) !== 0;
  }
  get isLive(): boolean {
    return (this.#host.status & VIRTIO_CONFIG_S_DRIVER_OK) !== 0;
  }
  get needsReset(): boolean {
    return (this.#host.status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0;
  }

  /** As GET_STATUS has it: FEATURES_OK only when the device takes the features, NEEDS_RESET when it needs one. */
  get status(): number {
    const { status } = this.#host;
    const refused = this.#written & VIRTIO_CONFIG_S_FEATURES_OK & ~status;
    return (this.#written & ~refused) | (status & VIRTIO_CONFIG_S_NEEDS_RESET);
  }
  /** What was written; 0 forgets. */
  noteStatus(status: number): void {
    this.#written = status;
  }
  get isDriverOkWritten(): boolean {
    return (this.#written & VIRTIO_CONFIG_S_DRIVER_OK) !== 0;
  }

  /** Whether a set asks for what the device has, apart from the protocol's own bits. */
  isCurrent(features: FeatureBits): boolean {
    return this.isConfigured && !this.needsReset && this.#host.driverFeatures === (features & ~OWN_BITS);
  }

  /** Takes a feature set; the device is reset before if it had another, or broke. No ring runs meanwhile. */
  async negotiate(features: FeatureBits): Promise<ProtocolFault | undefined> {
    const unoffered = features & ~this.offered;
    const host = this.#host;
    const bits = features & ~OWN_BITS;
    if (host.status !== 0) await this.reset();
    if (this.#isEnded) return protocolFault('CLOSED', 'the connection ended meanwhile');
    if (!hasFeature(bits, VIRTIO_F_VERSION_1)) host.useLegacy();
    host.writeStatus(UP_TO_DRIVER);
    host.writeDriverFeatures(bits);
    host.writeStatus(UP_TO_FEATURES_OK);
    if (this.isConfigured) return undefined;
    return unoffered === 0n
      ? protocolFault('REFUSED', host.refusal ?? 'the device refused the features')
      : protocolFault('BAD_VALUE', `features ${hex(unoffered)} were not offered`);
  }

  /** The rings that are there are its queues from here on; more may come. */
  activate(): void {
    if (!this.#isEnded && this.isConfigured && !this.isLive)
      this.#host.writeStatus(UP_TO_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
  }

  /** Resolves when the device touches no memory. */
  async reset(): Promise<void> {
    if (this.#isEnded) return;
    this.#host.writeStatus(0);
    if (this.#host.status === 0) return;
    await new Promise<void>((resolve) => this.#resetWaiters.push(resolve));
  }

  /** From here on the device is left alone, and who waits for it need not. */
  end(): void {
    this.#isEnded = true;
    this.statusChanged();
  }

  /** From the transport: a reset may be over. */
  statusChanged(): void {
    if (!this.#isEnded && this.#host.status !== 0) return;
    for (const resolve of this.#resetWaiters.splice(0)) resolve();
  }
}
