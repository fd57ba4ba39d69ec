import type { DomId } from '@virtlab/abi/brands';
import type { XenbusState } from '@virtlab/abi/xenbus';
import type { AioContext } from '@virtlab/aio';
import type { EventChannels } from '@virtlab/event-channel';
import type { GrantMapper } from '@virtlab/grant-table';
import type { DeviceHost } from '@virtlab/virtio';
import type { Xenstore } from '@virtlab/xenstore';
import type { XenbusProfile } from './profile.ts';

export interface ServeVirtioXenbusOptions {
  /** The own domain's connection. */
  readonly store: Xenstore;
  /** The backend's directory, `/local/domain/<be>/backend/virtio/<fe>/<id>`. */
  readonly path: string;
  /** The device; attached while a frontend is being served, reset and detached in between. Stays the caller's. */
  readonly host: DeviceHost;
  readonly events: EventChannels;
  /** The own domain's mapper. */
  readonly grantMapper: GrantMapper;
  /** Makes a frontend's memory reachable for the mapper; called before the first grant is mapped. */
  readonly mapDomain: (domain: DomId) => Promise<unknown>;
  /** Pages of the frontend mapped at once at most. Default 65536. */
  readonly mapCountMax?: number;
  /** The protocol to speak. Default: what the toolstack wrote as `profile`, and without it `native`. */
  readonly profile?: XenbusProfile;
  /**
   * The own loop, for its clock: pauses after conflicts, and a bound to the wait for a frontend that was told Closing. Without it
   * conflicts are retried sooner, and a frontend is not waited for.
   */
  readonly aio?: AioContext;
  /** The bound to that wait. Default 1000. */
  readonly closeTimeoutMs?: number;
}

/** A device that is being served. Disposing of it closes the device; its directory is the toolstack's to remove. */
export interface VirtioXenbusBackend extends AsyncDisposable {
  readonly path: string;
  readonly frontendDomain: DomId;
  readonly host: DeviceHost;
  readonly profile: XenbusProfile;
  /** As written last. */
  readonly state: XenbusState;
  /** What the frontend did against the protocol last, if that is why it is not connected. */
  readonly fault: string | undefined;
  /**
   * Resolves, never rejects, when the device is not served any more and everything is given back: `removed` or `replaced` by
   * the toolstack, `offline`, `frontend gone`, `xenstore lost`, `xenstore busy` (no transaction came through), `closed` by
   * disposal, or `failed: …` for a bug of ours (which is also thrown outside).
   */
  readonly closed: Promise<string>;
}
