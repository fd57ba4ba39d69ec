import {
  VIRTIO_XENBUS_KEY_CONFIG_EVENT_CHANNEL,
  VIRTIO_XENBUS_KEY_CONFIG_REF,
  VIRTIO_XENBUS_QUEUE_COUNT_MAX,
} from '@virtlab/abi/virtio-xenbus';
import { XenbusState } from '@virtlab/abi/xenbus';
import type { AioContext } from '@virtlab/aio';
import type { EventChannels } from '@virtlab/event-channel';
import type { GrantTable } from '@virtlab/grant-table';
import type { MemoryRegion, PageAllocator } from '@virtlab/guest-memory';
import { type DriverLink, TransportError } from '@virtlab/virtio';
import { type XenbusDevice, openXenbusDevice, stateName } from '@virtlab/xenbus';
import type { Xenstore } from '@virtlab/xenstore';
import { readOffer } from './device-offer.ts';
import { DriverConfigPage } from './driver-config-page.ts';
import { XenbusDriverTransport } from './driver-transport.ts';
import { FrontendResources, ownKeys } from './frontend-resources.ts';
import { grantRefOf } from './grant-address.ts';
import { createGrantDmaMapper } from './grant-dma-mapper.ts';
import { Lifeline, toTransportError } from './lifeline.ts';
import { OtherendStates } from './otherend-states.ts';

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
}

const TIMEOUT_MS_DEFAULT = 5000;

/**
 * Connects to the device whose frontend directory is `path` and brings the xenbus handshake to Connected; virtio's status is
 * not touched. Rejects with `TransportError`: `ENODEV` (no such directory, or the device went away), `EPROTO` (the
 * backend's keys are nonsense or another profile's), `ETIMEDOUT` (a step took too long), `EIO`; or with `DmaError` when
 * there is no page or grant entry. Nothing is held then, and the directory is Closed.
 */
export async function connectVirtioXenbus(options: ConnectVirtioXenbusOptions): Promise<DriverLink> {
  const { store, path, aio, timeoutMs = TIMEOUT_MS_DEFAULT } = options;
  const lifeline = new Lifeline(aio, timeoutMs);
  const device = await lifeline.run('Reading the directory', () =>
    openXenbusDevice({ store, path, role: 'frontend' }),
  );
  return await new Handshake(options, device, lifeline, timeoutMs).run();
}

class Handshake {
  readonly #options: ConnectVirtioXenbusOptions;
  readonly #device: XenbusDevice;
  readonly #lifeline: Lifeline;
  readonly #timeoutMs: number;
  readonly #states = new OtherendStates();
  readonly #dma: ReturnType<typeof createGrantDmaMapper>;
  readonly #resources: FrontendResources;

  constructor(
    options: ConnectVirtioXenbusOptions,
    device: XenbusDevice,
    lifeline: Lifeline,
    timeoutMs: number,
  ) {
    const { memory, pages, grants, events, aio } = options;
    this.#options = options;
    this.#device = device;
    this.#lifeline = lifeline;
    this.#timeoutMs = timeoutMs;
    this.#dma = createGrantDmaMapper({ memory, pages, grants, backendDomain: device.otherendDomain });
    this.#resources = new FrontendResources({
      device,
      states: this.#states,
      dma: this.#dma,
      events,
      aio,
      timeoutMs,
    });
  }

  async run(): Promise<DriverLink> {
    try {
      const transport = await this.#connect();
      return { transport, dma: this.#dma, [Symbol.asyncDispose]: () => transport[Symbol.asyncDispose]() };
    } catch (error) {
      await this.#giveUp(error);
      throw toTransportError(error);
    }
  }

  async #connect(): Promise<XenbusDriverTransport> {
    const { memory, events, aio } = this.#options;
    const device = this.#device;
    const lifeline = this.#lifeline;
    await lifeline.run('Watching the backend', () => this.#states.watch(device));
    await this.#switchState(XenbusState.Initialising, ownKeys(await this.#staleQueueCount()));
    await this.#until(XenbusState.InitWait, isRemoved);
    const offer = await lifeline.run('Reading what the backend offers', () => readOffer(device));
    const buffer = this.#resources.allocateConfigPage();
    const configPort = await lifeline.run('Opening the configuration channel', () =>
      this.#resources.openPort(() => {}),
    );
    await this.#switchState(XenbusState.Initialised, {
      [VIRTIO_XENBUS_KEY_CONFIG_REF]: String(grantRefOf(buffer.addressLow, buffer.addressHigh)),
      [VIRTIO_XENBUS_KEY_CONFIG_EVENT_CHANNEL]: String(configPort),
    });
    await this.#until(XenbusState.Connected, isOver);
    const page = new DriverConfigPage(memory, buffer.offset);
    if (page.size !== offer.configSize) {
      throw new TransportError(
        'EPROTO',
        `${page.size} bytes of configuration, ${offer.configSize} were offered`,
      );
    }
    const transport = new XenbusDriverTransport({
      device,
      states: this.#states,
      resources: this.#resources,
      offer,
      page,
      configPort,
      events,
      aio,
      lifeline,
      timeoutMs: this.#timeoutMs,
    });
    await lifeline.run('Watching the device', () => transport.start());
    await this.#switchState(XenbusState.Connected, {});
    return transport;
  }

  /** Queue directories that a driver before us left behind, when it could not clean up. */
  async #staleQueueCount(): Promise<number> {
    const names = await this.#lifeline.run('Listing the directory', () =>
      this.#options.store.directory(this.#device.path),
    );
    const numbers = names.flatMap((name) => /^queue-(\d{1,4})$/.exec(name)?.[1] ?? []);
    return Math.min(VIRTIO_XENBUS_QUEUE_COUNT_MAX, 1 + Math.max(-1, ...numbers.map(Number)));
  }

  async #switchState(state: XenbusState, keys: Parameters<XenbusDevice['switchState']>[1]): Promise<void> {
    const isWritten = await this.#lifeline.run(stateName(state), () => this.#device.switchState(state, keys));
    if (!isWritten) throw new TransportError('ENODEV', `${this.#device.path} was removed`);
  }

  async #until(wanted: XenbusState, isEnd: (state: XenbusState) => boolean): Promise<void> {
    const found = await this.#lifeline.run(`Waiting for the backend's ${stateName(wanted)}`, () =>
      this.#states.until((state) => state === wanted || isEnd(state)),
    );
    if (found === wanted) return;
    throw new TransportError(
      'ENODEV',
      `${this.#device.otherend}: ${found === XenbusState.Unknown ? 'not there' : stateName(found)}`,
    );
  }

  async #giveUp(error: unknown): Promise<void> {
    const reason = toTransportError(error);
    if (reason instanceof TransportError && reason.code === 'EPROTO') {
      await this.#resources.reportFault(reason.message);
    }
    this.#lifeline.cut(new TransportError('ENODEV', 'The connection attempt failed'));
    await this.#resources.release(0);
  }
}

/** Before InitWait an earlier life of the backend may still show, whatever its state. */
function isRemoved(state: XenbusState): boolean {
  return state === XenbusState.Unknown;
}

function isOver(state: XenbusState): boolean {
  return state !== XenbusState.InitWait && state !== XenbusState.Initialised;
}
