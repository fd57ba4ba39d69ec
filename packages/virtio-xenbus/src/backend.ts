import type { DomId } from '@virtlab/abi/brands';
import { XEN_ERRNO } from '@virtlab/abi/xen';
import { XENBUS_KEY_ONLINE, XENBUS_KEY_STATE, XenbusState } from '@virtlab/abi/xenbus';
import type { Timer } from '@virtlab/aio';
import { EventChannelError } from '@virtlab/event-channel';
import type { DeviceHost } from '@virtlab/virtio';
import {
  type XenbusDevice,
  XenbusError,
  type XenbusKeys,
  isLost,
  openXenbusDevice,
  readState,
} from '@virtlab/xenbus';
import { XenstoreError } from '@virtlab/xenstore';
import type { ServeVirtioXenbusOptions, VirtioXenbusBackend } from './backend-contract.ts';
import { createSession, offerKeys, readProfile } from './backend-profile.ts';
import { sleep } from './lifeline.ts';
import type { XenbusProfile } from './profile.ts';
import type { BackendSession } from './session-parts.ts';

/**
 * Serves one device to the frontend that its directory names, again and again while that frontend closes and comes back.
 * Resolves once it is being served; rejects with `XenbusError` when the directory names no frontend or no profile, with
 * `RangeError` for a device that has more queues or configuration than the profile carries.
 */
export async function serveVirtioXenbus(options: ServeVirtioXenbusOptions): Promise<VirtioXenbusBackend> {
  const { store, path, host, aio } = options;
  const pause = aio === undefined ? {} : { pause: (delayMs: number) => sleep(aio, delayMs) };
  const device = await openXenbusDevice({ store, path, role: 'backend', ...pause });
  const profile = options.profile ?? (await readProfile(device));
  offerKeys(profile, host); // a device that cannot be offered is the caller's mistake
  const backend = new Backend(options, device, profile);
  await backend.start();
  return backend;
}

const CLOSE_TIMEOUT_MS_DEFAULT = 1000;

/**
 * Watches leave notes, one loop acts on them: nothing here runs twice at a time. Frontend's state, and what we do:
 *
 *     Initialising ─▶ offer, InitWait      Closing ─▶ let go, Closing       missing ─▶ let go, Closed, end
 *     Initialised  ─▶ connect, Connected   Closed  ─▶ let go, Closed, end if not online
 *
 * When the toolstack writes Closing into our state, a frontend that is connected moves first: it sees what we see. Without one
 * there is nobody to wait for. The toolstack's `online` 0 ends a device that is Closed.
 */
class Backend implements VirtioXenbusBackend {
  readonly path: string;
  readonly frontendDomain: DomId;
  readonly host: DeviceHost;
  readonly profile: XenbusProfile;
  readonly #options: ServeVirtioXenbusOptions;
  readonly #device: XenbusDevice;
  readonly #closed = Promise.withResolvers<string>();
  #session: BackendSession | undefined;
  /** Undefined until it was read once. */
  #frontendState: XenbusState | undefined;
  #hasOwnStateChanged = false;
  /** The toolstack asks us to close; until we have. */
  #isAskedToClose = false;
  /** Waits for a frontend's answer to our Closing, at the most until then. */
  #farewell: Timer | undefined;
  #isFarewellOver = false;
  #isSessionDue = false;
  #pendingFault: { readonly error: unknown } | undefined;
  #fault: string | undefined;
  #isClosing = false;
  #isOver = false;
  #isRunning = false;
  #isDue = false;

  constructor(options: ServeVirtioXenbusOptions, device: XenbusDevice, profile: XenbusProfile) {
    this.profile = profile;
    this.path = options.path;
    this.frontendDomain = device.otherendDomain;
    this.host = options.host;
    this.#options = options;
    this.#device = device;
  }

  get state(): XenbusState {
    return this.#device.state;
  }

  get fault(): string | undefined {
    return this.#fault;
  }

  get closed(): Promise<string> {
    return this.#closed.promise;
  }

  async start(): Promise<void> {
    const device = this.#device;
    try {
      await device.watchOwnState((state) => {
        if (state === device.state) return;
        this.#hasOwnStateChanged = true;
        this.#wake();
      });
      await device.watchOtherend((state) => {
        this.#frontendState = state;
        this.#wake();
      });
      await device.watchOwnKey(XENBUS_KEY_ONLINE, (text) => {
        if (text !== '0') return;
        this.#hasOwnStateChanged = true;
        this.#wake();
      });
    } catch (error) {
      await device[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosing = true;
    this.#wake();
    await this.closed;
  }

  #wake(): void {
    this.#isDue = true;
    if (!this.#isRunning) void this.#run();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#isDue && !this.#isOver) {
      this.#isDue = false;
      try {
        await this.#step();
      } catch (error) {
        await this.#failed(error).catch((worse: unknown) => this.#crash(worse));
      }
    }
    this.#isRunning = false;
  }

  async #step(): Promise<void> {
    if (this.#pendingFault !== undefined) {
      const { error } = this.#pendingFault;
      this.#pendingFault = undefined;
      throw error;
    }
    if (this.#hasOwnStateChanged && (await this.#lookAtOwnState())) return;
    if (this.#isClosing) return await this.#close();
    await this.#followFrontend();
    if (this.#isSessionDue && this.state === XenbusState.Connected) {
      this.#isSessionDue = false;
      await this.#session?.handleDue();
    }
  }

  /** Disposal: the device lets go at once, and a frontend that is connected is given the time to answer. */
  async #close(): Promise<void> {
    const { aio, closeTimeoutMs = CLOSE_TIMEOUT_MS_DEFAULT } = this.#options;
    await this.#letGo(XenbusState.Closing);
    const isWaiting = aio !== undefined && !this.#isFarewellOver && this.#isFrontendConnected();
    if (!isWaiting) return await this.#end('closed', XenbusState.Closed);
    if (this.#farewell !== undefined) return;
    this.#farewell = aio.createTimer(() => {
      this.#isFarewellOver = true;
      this.#wake();
    });
    this.#farewell.arm(closeTimeoutMs);
  }

  #isFrontendConnected(): boolean {
    const state = this.#frontendState;
    return state === XenbusState.Connected || state === XenbusState.Initialised;
  }

  /** A report may be older than what we wrote since, so it is looked up again. True if it was the end. */
  async #lookAtOwnState(): Promise<boolean> {
    this.#hasOwnStateChanged = false;
    const found = await readState(this.#options.store, this.path);
    const { state } = this.#device;
    if (found === XenbusState.Unknown) await this.#end('removed');
    else if (found === XenbusState.Initialising && state !== XenbusState.Unknown && state !== found)
      await this.#end('replaced');
    else if (found === XenbusState.Closing && state !== found && state !== XenbusState.Unknown)
      this.#isAskedToClose = true;
    else if (found === XenbusState.Closed && state === found && !(await this.#isOnline()))
      await this.#end('offline');
    return this.#isOver;
  }

  async #followFrontend(): Promise<void> {
    const device = this.#device;
    const { state } = device;
    if (this.#isAskedToClose && !this.#isFrontendActive()) return await this.#closeAsAsked();
    switch (this.#frontendState) {
      case undefined:
        return;
      case XenbusState.Unknown:
        return await this.#missFrontend();
      case XenbusState.Initialising:
        if (state !== XenbusState.InitWait) await this.#offer();
        return;
      case XenbusState.Initialised:
        if (state === XenbusState.Unknown) await this.#offer();
        if (device.state === XenbusState.InitWait && !this.#isAskedToClose) await this.#connect();
        return;
      case XenbusState.Closing:
        if (state !== XenbusState.Closed) await this.#letGo(XenbusState.Closing);
        return;
      case XenbusState.Closed:
        await this.#letGo(XenbusState.Closed);
        if (!(await this.#isOnline())) await this.#end('offline');
        return;
      default:
        // A frontend that was connected to somebody before us sees that it has to start over.
        if (state === XenbusState.Unknown) await this.#offer();
    }
  }

  #isFrontendActive(): boolean {
    return this.#isFrontendConnected() || this.#frontendState === XenbusState.Closing;
  }

  /** An offline device ends so; one that is online may be connected to again. */
  async #closeAsAsked(): Promise<void> {
    if (!(await this.#isOnline())) return await this.#end('offline', XenbusState.Closed);
    this.#isAskedToClose = false;
    await this.#letGo(XenbusState.Closed);
  }

  /** The toolstack removes both directories at once: then that is the reason. A state that is none is a fault. */
  async #missFrontend(): Promise<void> {
    if (await this.#lookAtOwnState()) return;
    if (!(await this.#isFrontendThere())) return await this.#end('frontend gone', XenbusState.Closed);
    if (this.state === XenbusState.Closing || this.state === XenbusState.Closed) return;
    throw new XenbusError('EINVAL', `${this.#device.otherend}/${XENBUS_KEY_STATE}`, 'It is no state');
  }

  async #isFrontendThere(): Promise<boolean> {
    return await this.#options.store.exists(`${this.#device.otherend}/${XENBUS_KEY_STATE}`);
  }

  async #offer(): Promise<void> {
    if (!(await this.#isOnline())) return await this.#end('offline', XenbusState.Closed);
    await this.#dropSession();
    const { host, events, grantMapper, mapCountMax, mapDomain } = this.#options;
    this.#session = createSession(this.profile, {
      device: this.#device,
      host,
      events,
      grantMapper,
      mapDomain,
      ...(mapCountMax === undefined ? {} : { mapCountMax }),
      onDue: () => {
        this.#isSessionDue = true;
        this.#wake();
      },
      onFault: (error) => {
        this.#pendingFault = { error };
        this.#wake();
      },
    });
    await this.#switchState(XenbusState.InitWait, offerKeys(this.profile, host));
  }

  async #connect(): Promise<void> {
    await this.#session!.connect();
    await this.#switchState(XenbusState.Connected);
    this.#fault = undefined;
    await this.#device.clearError();
    this.#wake();
  }

  async #letGo(state: XenbusState): Promise<void> {
    await this.#dropSession();
    await this.#switchState(state);
  }

  /** A directory that is gone, or another's, is looked at in the next step. */
  async #switchState(state: XenbusState, keys: XenbusKeys = {}): Promise<void> {
    if (await this.#device.switchState(state, keys)) return;
    this.#hasOwnStateChanged = true;
    this.#wake();
  }

  async #dropSession(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    this.#isSessionDue = false;
    await session?.[Symbol.asyncDispose]();
  }

  async #isOnline(): Promise<boolean> {
    return (await this.#device.readOwn(XENBUS_KEY_ONLINE)) === '1';
  }

  /** The frontend's doing ends the connection, and it may come back; the rest ends the service. */
  async #failed(error: unknown): Promise<void> {
    if (isLost(error)) return await this.#end('xenstore lost');
    const isPeers =
      error instanceof XenbusError || error instanceof EventChannelError || error instanceof XenstoreError;
    if (!isPeers) return await this.#crash(error);
    if (error instanceof XenbusError && error.code === 'EAGAIN') return await this.#end('xenstore busy');
    await this.#dropSession();
    this.#pendingFault = undefined;
    this.#fault = error.message;
    if (await this.#isFrontendThere()) await this.#device.fatal(XEN_ERRNO.EINVAL, error.message);
    else await this.#end('frontend gone', XenbusState.Closed);
    this.#wake();
  }

  /** A bug of ours, or of the device: this device ends, and the process is told. */
  async #crash(error: unknown): Promise<void> {
    if (isLost(error)) return await this.#end('xenstore lost');
    if (error instanceof XenbusError && error.code === 'EAGAIN') return await this.#end('xenstore busy');
    queueMicrotask(() => {
      throw error;
    });
    await this.#end(`failed: ${String(error)}`, XenbusState.Closing);
  }

  /** Lets go of everything and writes the last states, as far as that can be done. */
  async #end(reason: string, ...states: readonly XenbusState[]): Promise<void> {
    this.#isOver = true;
    this.#farewell?.[Symbol.dispose]();
    try {
      await this.#dropSession();
      for (const state of states) await this.#attempt(() => this.#device.switchState(state));
      await this.#attempt(() => this.#device[Symbol.asyncDispose]());
    } finally {
      this.#closed.resolve(reason);
    }
  }
  /** On the way out the store need not be there, nor let us write. */
  async #attempt(step: () => Promise<unknown>): Promise<void> {
    try {
      await step();
    } catch (error) {
      if (!(error instanceof XenstoreError || error instanceof XenbusError)) throw error;
    }
  }
}
