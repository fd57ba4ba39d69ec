import type { FeatureBits } from '@virtlab/abi/brands';
import type { DriverSession } from '@virtlab/virtio';
import { parseAnnounce, parseLink } from './driver-config.ts';
import type { NetControl } from './driver-control.ts';
import { NetError } from './errors.ts';
import { configSizeFor } from './protocol.ts';

/** What the device says while it is live: whether the link is up, and that the station should announce itself (§5.1.4). */
export class DriverStatus {
  linkHandler: ((up: boolean) => void) | undefined;
  announceHandler: (() => void) | undefined;
  readonly #session: DriverSession;
  readonly #control: NetControl | undefined;
  #linkUp: boolean;
  #isAnnouncing = false;
  #isEnded = false;

  /** `config` is as `readConfig` gave it at first; where it is empty, there is nothing to read later either. */
  constructor(session: DriverSession, config: Uint8Array, control: NetControl | undefined) {
    this.#session = session;
    this.#control = control;
    this.#linkUp = parseLink(config, session.features);
    if (config.length > 0) session.onConfigChange(() => void this.#read(session.features));
  }

  get linkUp(): boolean {
    return this.#linkUp;
  }

  /** Nobody is told anything any more. */
  end(): void {
    this.#isEnded = true;
  }

  /** A session that cannot be read reports that itself. */
  async #read(features: FeatureBits): Promise<void> {
    let linkUp: boolean;
    let isAnnounced: boolean;
    try {
      const config = await this.#session.readConfig(0, configSizeFor(features));
      linkUp = parseLink(config, features);
      isAnnounced = parseAnnounce(config);
    } catch {
      return;
    }
    if (this.#isEnded) return;
    if (isAnnounced) void this.#announce();
    if (linkUp === this.#linkUp) return;
    this.#linkUp = linkUp;
    this.linkHandler?.(linkUp);
  }

  /** §5.1.9.5.4: first the announcement, then the acknowledgement. Without the feature the bit means nothing. */
  async #announce(): Promise<void> {
    if (this.#isAnnouncing) return;
    this.#isAnnouncing = true;
    this.announceHandler?.();
    try {
      await this.#control?.acknowledgeAnnounce();
    } catch (error) {
      if (!(error instanceof NetError)) throw error; // the device asks again, or is gone
    } finally {
      this.#isAnnouncing = false;
    }
  }
}
