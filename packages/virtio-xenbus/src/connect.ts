import type { AioContext } from '@virtlab/aio';
import type { EventChannels } from '@virtlab/event-channel';
import type { GrantTable } from '@virtlab/grant-table';
import type { MemoryRegion, PageAllocator } from '@virtlab/guest-memory';
import type { DriverLink } from '@virtlab/virtio';
import { openXenbusDevice } from '@virtlab/xenbus';
import type { Xenstore } from '@virtlab/xenstore';
import { Handshake } from './handshake.ts';
import { Lifeline, sleep } from './lifeline.ts';
import type { XenbusProfile } from './profile.ts';

export interface ConnectVirtioXenbusOptions {
  /** The own domain's connection. */
  readonly store: Xenstore;
  /** The frontend's directory, `/local/domain/<fe>/device/virtio/<id>`. */
  readonly path: string;
  readonly events: EventChannels;
  readonly grants: GrantTable;
  /** The own domain's RAM, from guest-physical address 0 on. */
  readonly memory: MemoryRegion;
  readonly pages: PageAllocator;
  readonly aio: AioContext;
  /** For each step of the handshake and each operation later. Default 5000. */
  readonly timeoutMs?: number;
  /** The profile that the backend must speak. Default: whichever it speaks. */
  readonly profile?: XenbusProfile;
}

const TIMEOUT_MS_DEFAULT = 5000;

/**
 * Connects to the device whose frontend directory is `path` and brings the xenbus handshake to Connected, in the profile that the
 * backend speaks; virtio's status is not touched. What an earlier driver left behind is closed first. Rejects with
 * `TransportError`: `ENODEV` (no such directory, the device went away or is being removed), `EPROTO` (the backend's keys
 * or registers are nonsense or another profile's), `ETIMEDOUT` (a step took too long), `EIO`; or with `DmaError` when there
 * is no page or grant entry. Nothing is held then, and the directory is Closed.
 */
export async function connectVirtioXenbus(options: ConnectVirtioXenbusOptions): Promise<DriverLink> {
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS_DEFAULT;
  return await attempt(options, timeoutMs, new Lifeline(options.aio, timeoutMs));
}

/** One attempt. `patience` bounds each step up to the backend's offer. */
export async function attempt(
  options: ConnectVirtioXenbusOptions,
  timeoutMs: number,
  patience: Lifeline,
): Promise<DriverLink> {
  const { store, path, aio } = options;
  const lifeline = new Lifeline(aio, timeoutMs);
  const pause = (delayMs: number): Promise<void> => sleep(aio, delayMs);
  const device = await lifeline.run('Reading the directory', () =>
    openXenbusDevice({ store, path, role: 'frontend', pause }),
  );
  return await new Handshake(options, device, lifeline, patience, timeoutMs).run();
}

export { TIMEOUT_MS_DEFAULT };
