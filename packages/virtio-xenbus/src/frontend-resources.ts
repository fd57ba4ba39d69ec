import type { EvtchnPort } from '@virtlab/abi/brands';
import {
  VIRTIO_XENBUS_KEY_CONFIG_EVENT_CHANNEL,
  VIRTIO_XENBUS_KEY_CONFIG_REF,
  VIRTIO_XENBUS_KEY_DRIVER_FEATURES,
  VIRTIO_XENBUS_KEY_DRIVER_QUEUE,
  VIRTIO_XENBUS_KEY_DRIVER_STATUS,
} from '@virtlab/abi/virtio-xenbus';
import {
  VIRTIO_XENBUS_KEY_EVENT_CHANNEL,
  VIRTIO_XENBUS_KEY_EVENT_CHANNEL2,
  VIRTIO_XENBUS_KEY_PAGE_GREF,
} from '@virtlab/abi/virtio-xenbus-registers';
import { XEN_ERRNO, XEN_PAGE_SIZE } from '@virtlab/abi/xen';
import { XenbusState } from '@virtlab/abi/xenbus';
import type { AioContext } from '@virtlab/aio';
import { EventChannelError, type EventChannels } from '@virtlab/event-channel';
import type { CoherentBuffer } from '@virtlab/guest-memory';
import { TransportError } from '@virtlab/virtio';
import { type XenbusDevice, type XenbusKeys, isMissing } from '@virtlab/xenbus';
import { type Xenstore, XenstoreError } from '@virtlab/xenstore';
import type { GrantDmaMapper } from './grant-dma-mapper.ts';
import { Lifeline, sleep } from './lifeline.ts';
import type { OtherendStates } from './otherend-states.ts';

/** How often it is looked whether the backend has let go. */
const RECLAIM_INTERVAL_MS = 1;

export interface FrontendResourcesOptions {
  readonly device: XenbusDevice;
  readonly states: OtherendStates;
  readonly dma: GrantDmaMapper;
  readonly events: EventChannels;
  readonly aio: AioContext;
  readonly timeoutMs: number;
}

/** What a driver holds of a device: its keys, its ports, the configuration page; and how it lets go of them. */
export class FrontendResources {
  readonly #options: FrontendResourcesOptions;
  readonly #ports = new Set<EvtchnPort>();
  #configPage: CoherentBuffer | undefined;
  #isReleased = false;

  constructor(options: FrontendResourcesOptions) {
    this.#options = options;
  }

  /** One zeroed page, granted to the backend. Throws `DmaError`. */
  allocateConfigPage(): CoherentBuffer {
    this.#configPage = this.#options.dma.allocateCoherent(XEN_PAGE_SIZE);
    return this.#configPage;
  }

  /** A port for the backend to bind to. */
  async openPort(handler: () => void): Promise<EvtchnPort> {
    const { device, events } = this.#options;
    const port = await events.allocUnbound(device.otherendDomain);
    this.#ports.add(port);
    if (this.#isReleased) await this.closePort(port); // too late: whoever asked has given up
    else events.onEvent(port, handler);
    return port;
  }

  async closePort(port: EvtchnPort): Promise<void> {
    if (this.#ports.delete(port)) await this.#options.events.close(port);
  }

  /** Tells the operator that the backend does not keep to the protocol, and begins to close. */
  async reportFault(message: string): Promise<void> {
    const { device, aio, timeoutMs } = this.#options;
    const lifeline = new Lifeline(aio, timeoutMs);
    await attempt(() => lifeline.run('Reporting a fault', () => device.fatal(XEN_ERRNO.EINVAL, message)));
  }

  /**
   * The backend goes: says Closing too, waits until it has no page mapped any more (of what it maps, the configuration
   * page goes last), and says Closed. Bounded: what a backend does not let go of is never used again, see `Quarantine`.
   * `lifeline` ends each step early.
   */
  async answerClosing(lifeline: Lifeline): Promise<void> {
    const { device, states, dma, aio } = this.#options;
    const isTold = await attempt(() =>
      lifeline.run('Closing', () => device.switchState(XenbusState.Closing)),
    );
    const isFree = await attempt(() =>
      lifeline.run('Letting go', async (turn) => {
        while (this.#isHeld(dma) && !turn.isOver) await sleep(aio, RECLAIM_INTERVAL_MS);
        if (isTold && device.state === XenbusState.Closing) await states.until(hasLetGo);
      }),
    );
    if (isFree) await attempt(() => lifeline.run('Closed', () => this.#switchToClosed()));
  }

  /**
   * Closing, the backend's consent, Closed; then everything is given back. Each step is bounded, and none fails because the
   * other end, or the store, is not there. Never rejects for what a peer did.
   */
  async release(): Promise<void> {
    const { device, states, dma, aio, timeoutMs } = this.#options;
    const lifeline = new Lifeline(aio, timeoutMs);
    this.#isReleased = true;
    if (device.state !== XenbusState.Closed) {
      const isTold = await attempt(() =>
        lifeline.run('Closing', () => device.switchState(XenbusState.Closing)),
      );
      // Without xenstore neither end hears of the other.
      if (isTold) await attempt(() => lifeline.run('The backend', () => states.until(hasLetGo)));
      await attempt(() => lifeline.run('Closed', () => this.#switchToClosed()));
    }
    for (const port of this.#ports) await attempt(() => lifeline.run('A port', () => this.closePort(port)));
    if (this.#configPage !== undefined) dma.freeCoherent(this.#configPage);
    this.#configPage = undefined;
    await attempt(() => lifeline.run('The last grant', (turn) => this.#reclaim(turn)));
    await attempt(() => device[Symbol.asyncDispose]());
  }

  async #switchToClosed(): Promise<boolean> {
    const { device } = this.#options;
    return await device.switchState(XenbusState.Closed, await ownKeys(device));
  }

  #isHeld(dma: GrantDmaMapper): boolean {
    return this.#configPage !== undefined && dma.isInUse(this.#configPage);
  }

  /** A backend that died holds its pages until the hypervisor has taken them from it. */
  async #reclaim(turn: { readonly isOver: boolean }): Promise<void> {
    const { dma, aio } = this.#options;
    while (dma.reclaim() > 0 && !turn.isOver) await sleep(aio, RECLAIM_INTERVAL_MS);
  }
}

/** What drivers of either profile write, the directories of their queues excepted. */
const DRIVER_KEYS: ReadonlySet<string> = new Set([
  VIRTIO_XENBUS_KEY_CONFIG_REF,
  VIRTIO_XENBUS_KEY_CONFIG_EVENT_CHANNEL,
  VIRTIO_XENBUS_KEY_DRIVER_FEATURES,
  VIRTIO_XENBUS_KEY_DRIVER_STATUS,
  VIRTIO_XENBUS_KEY_DRIVER_QUEUE,
  VIRTIO_XENBUS_KEY_PAGE_GREF,
  VIRTIO_XENBUS_KEY_EVENT_CHANNEL,
  VIRTIO_XENBUS_KEY_EVENT_CHANNEL2,
]);

/**
 * The keys of a driver that are there, of any profile, to be removed: a driver that comes later finds none of them,
 * whatever the one before it could not clean up.
 */
export async function ownKeys({ store, path }: XenbusDevice): Promise<XenbusKeys> {
  const names = await directoryOf(store, path);
  const own = names.filter((name) => DRIVER_KEYS.has(name) || /^queue-\d{1,4}$/.test(name));
  return Object.fromEntries(own.map((name) => [name, undefined]));
}

async function directoryOf(store: Xenstore, path: string): Promise<readonly string[]> {
  try {
    return await store.directory(path);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

/**
 * A backend in another state has nothing mapped. InitWait is not one: it has yet to see that we close, and would take a
 * frontend that comes back at once for the one that went.
 */
function hasLetGo(state: XenbusState): boolean {
  return (
    state !== XenbusState.Connected && state !== XenbusState.Initialised && state !== XenbusState.InitWait
  );
}

/** Runs a step of the way out, whatever the world outside does to it; answers whether it could be done. */
async function attempt(step: () => Promise<unknown>): Promise<boolean> {
  try {
    await step();
    return true;
  } catch (error) {
    const isOutside =
      error instanceof TransportError || error instanceof XenstoreError || error instanceof EventChannelError;
    if (!isOutside) throw error;
    return false;
  }
}
