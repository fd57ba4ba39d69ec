import type { AioContext } from '@virtlab/aio';
import type { EventChannels } from '@virtlab/event-channel';
import type { MemoryRegion } from '@virtlab/guest-memory';
import type { DriverTransport } from '@virtlab/virtio';
import type { XenbusDevice, XenbusKeys } from '@virtlab/xenbus';
import type { FrontendResources } from './frontend-resources.ts';
import type { Lifeline } from './lifeline.ts';
import type { OtherendStates } from './otherend-states.ts';

/** What a driver's end is made of, whichever profile it speaks. */
export interface FrontendParts {
  readonly device: XenbusDevice;
  readonly states: OtherendStates;
  readonly resources: FrontendResources;
  readonly events: EventChannels;
  readonly memory: MemoryRegion;
  readonly aio: AioContext;
  readonly lifeline: Lifeline;
  readonly timeoutMs: number;
}

/** A transport that listens already, of a connection that is not complete. */
export interface OpenedTransport extends DriverTransport {
  /** The connection attempt failed: listens no more. What it holds is the resources' to release. */
  abandon(): Promise<void>;
}

/** What a profile has ready before this end goes to Initialised. */
export interface PreparedFrontend {
  /** Written with Initialised. */
  readonly keys: XenbusKeys;
  /** The backend is Connected: begins to listen. Rejects with `TransportError`; nothing listens then. */
  open(): Promise<OpenedTransport>;
}
