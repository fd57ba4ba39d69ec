import { XENBUS_KEY_ONLINE, XenbusState } from '@virtlab/abi/xenbus';
import { type DriverLink, TransportError } from '@virtlab/virtio';
import { type XenbusDevice, XenbusError, type XenbusKeys, stateName } from '@virtlab/xenbus';
import type { ConnectVirtioXenbusOptions } from './connect.ts';
import { readIdentity } from './device-offer.ts';
import type { FrontendParts, OpenedTransport } from './frontend-parts.ts';
import { FrontendResources, ownKeys } from './frontend-resources.ts';
import { createGrantDmaMapper } from './grant-dma-mapper.ts';
import { type Lifeline, toTransportError } from './lifeline.ts';
import { prepareNative } from './native-frontend.ts';
import { OtherendStates } from './otherend-states.ts';
import { prepareRegisterPage } from './register-page/frontend.ts';

const { Unknown, Initialising, InitWait, Initialised, Connected, Closing, Closed } = XenbusState;

/** From a frontend's directory to a link, once. */
export class Handshake {
  readonly #profile: ConnectVirtioXenbusOptions['profile'];
  readonly #device: XenbusDevice;
  readonly #lifeline: Lifeline;
  /** Bounds the steps in which the backend need not be there. */
  readonly #patience: Lifeline;
  readonly #states = new OtherendStates();
  readonly #dma: ReturnType<typeof createGrantDmaMapper>;
  readonly #parts: FrontendParts;
  #transport: OpenedTransport | undefined;

  constructor(
    options: ConnectVirtioXenbusOptions,
    device: XenbusDevice,
    lifeline: Lifeline,
    patience: Lifeline,
    timeoutMs: number,
  ) {
    const { memory, pages, grants, events, aio } = options;
    this.#profile = options.profile;
    this.#device = device;
    this.#lifeline = lifeline;
    this.#patience = patience;
    this.#dma = createGrantDmaMapper({ memory, pages, grants, backendDomain: device.otherendDomain });
    const own = { device, states: this.#states, events, aio, timeoutMs };
    this.#parts = { ...own, memory, lifeline, resources: new FrontendResources({ ...own, dma: this.#dma }) };
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

  async #connect(): Promise<OpenedTransport> {
    const device = this.#device;
    const lifeline = this.#lifeline;
    await lifeline.run('Watching the backend', () => this.#states.watch(device));
    await this.#bringToInitWait();
    const identity = await lifeline.run('Reading what the backend offers', () =>
      readIdentity(device, this.#profile),
    );
    const prepare = identity.profile === 'native' ? prepareNative : prepareRegisterPage;
    const prepared = await prepare(this.#parts, identity);
    await this.#switchState(Initialised, prepared.keys);
    const found = await lifeline.run(`Waiting for the backend's Connected`, () =>
      this.#states.until((state) => state !== InitWait && state !== Initialised),
    );
    if (found !== Connected) throw this.#gone(found);
    const transport = await prepared.open();
    this.#transport = transport;
    await this.#switchState(Connected);
    return transport;
  }

  /**
   * Brings a backend forward that is anywhere (Linux' xenbus_reset_frontend): one that is Connected to a driver before us
   * is closed first, the frontend moving first at each step; Initialising takes a Closed one to InitWait. What an earlier
   * life of the backend left there is waited out.
   */
  async #bringToInitWait(): Promise<void> {
    for (let state = await this.#next(() => true); ;) {
      switch (state) {
        case Unknown:
          throw this.#gone(state);
        case Initialising:
          await this.#initialise();
          state = await this.#next((next) => next !== Initialising);
          break;
        case InitWait:
          return await this.#initialise();
        case Closing:
          await this.#switchState(Closed);
          state = await this.#next((next) => next !== Closing);
          break;
        case Closed:
          if (!(await this.#isOnline())) throw this.#gone(Closed);
          await this.#initialise();
          state = await this.#next((next) => next !== Closed);
          break;
        default: {
          await this.#switchState(Closing);
          const before = state;
          state = await this.#next((next) => next !== before);
        }
      }
    }
  }

  /** Once; what an earlier driver wrote goes with it. */
  async #initialise(): Promise<void> {
    if (this.#device.state === Initialising) return;
    const stale = await this.#lifeline.run('Listing the directory', () => ownKeys(this.#device));
    await this.#switchState(Initialising, stale);
  }

  async #isOnline(): Promise<boolean> {
    return await this.#lifeline.run('Reading whether the device is online', async () => {
      try {
        return (await this.#device.readOtherend(XENBUS_KEY_ONLINE)) === '1';
      } catch (error) {
        if (error instanceof XenbusError) return false;
        throw error;
      }
    });
  }

  async #next(accept: (state: XenbusState) => boolean): Promise<XenbusState> {
    return await this.#patience.run(`Waiting for the backend`, () => this.#states.until(accept));
  }

  async #switchState(state: XenbusState, keys: XenbusKeys = {}): Promise<void> {
    const isWritten = await this.#lifeline.run(stateName(state), () => this.#device.switchState(state, keys));
    if (!isWritten) throw new TransportError('ENODEV', `${this.#device.path} was removed`);
  }

  #gone(state: XenbusState): TransportError {
    const { otherend } = this.#device;
    return new TransportError('ENODEV', `${otherend}: ${state === Unknown ? 'not there' : stateName(state)}`);
  }

  async #giveUp(error: unknown): Promise<void> {
    const { resources } = this.#parts;
    const reason = toTransportError(error);
    await this.#transport?.abandon();
    if (reason instanceof TransportError && reason.code === 'EPROTO') {
      await resources.reportFault(reason.message);
    }
    this.#lifeline.cut(new TransportError('ENODEV', 'The connection attempt failed'));
    await resources.release();
  }
}
