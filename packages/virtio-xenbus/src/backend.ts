import type { DomId } from '@virtlab/abi/brands';
import { XEN_ERRNO } from '@virtlab/abi/xen';
import { XENBUS_KEY_ONLINE, XENBUS_KEY_STATE, XenbusState } from '@virtlab/abi/xenbus';
import { EventChannelError, type EventChannels } from '@virtlab/event-channel';
import type { GrantMapper } from '@virtlab/grant-table';
import type { DeviceHost } from '@virtlab/virtio';
import { type XenbusDevice, XenbusError, isLost, openXenbusDevice, readState } from '@virtlab/xenbus';
import { type Xenstore, XenstoreError } from '@virtlab/xenstore';
import { BackendSession } from './backend-session.ts';
import { offerKeys } from './device-offer.ts';

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
}

/** A device that is being served. Disposing of it closes the device; its directory is the toolstack's to remove. */
export interface VirtioXenbusBackend extends AsyncDisposable {
  readonly path: string;
  readonly frontendDomain: DomId;
  readonly host: DeviceHost;
  /** As written last. */
  readonly state: XenbusState;
  /** What the frontend did against the protocol last, if that is why it is not connected. */
  readonly fault: string | undefined;
  /**
   * Resolves, never rejects, when the device is not served any more and everything is given back: `removed` or `replaced` by
   * the toolstack, `offline`, `frontend gone`, `xenstore lost`, `closed` by disposal, or `failed: …` for a bug of ours (which is
   * also thrown outside).
   */
  readonly closed: Promise<string>;
}

/**
 * Serves one device to the frontend that its directory names, again and again while that frontend closes and comes back.
 * Resolves once it is being served; rejects with `XenbusError` when the directory names no frontend, with `RangeError` for a
 * device that has more queues or configuration than the profile carries.
 */
export async function serveVirtioXenbus(options: ServeVirtioXenbusOptions): Promise<VirtioXenbusBackend> {
  const { store, path, host } = options;
  offerKeys(host); // a device that cannot be offered is the caller's mistake
  const device = await openXenbusDevice({ store, path, role: 'backend' });
  const backend = new Backend(options, device);
  await backend.start();
  return backend;
}

/**
 * Watches leave notes, one loop acts on them: nothing here runs twice at a time. Frontend's state, and what we do:
 *
 *     Initialising ─▶ offer, InitWait      Closing ─▶ let go, Closing       missing ─▶ let go, Closed, end
 *     Initialised  ─▶ connect, Connected   Closed  ─▶ let go, Closed, end if not online
 */
class Backend implements VirtioXenbusBackend {
  readonly path: string;
  readonly frontendDomain: DomId;
  readonly host: DeviceHost;
  readonly #options: ServeVirtioXenbusOptions;
  readonly #device: XenbusDevice;
  readonly #closed = Promise.withResolvers<string>();
  #session: BackendSession | undefined;
  /** Undefined until it was read once. */
  #frontendState: XenbusState | undefined;
  #hasOwnStateChanged = false;
  #isStatusDue = false;
  #pendingFault: { readonly error: unknown } | undefined;
  #fault: string | undefined;
  #isClosing = false;
  #isOver = false;
  #isRunning = false;
  #isDue = false;

  constructor(options: ServeVirtioXenbusOptions, device: XenbusDevice) {
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
    if (this.#isClosing) return await this.#end('closed', XenbusState.Closing, XenbusState.Closed);
    if (this.#hasOwnStateChanged && (await this.#lookAtOwnState())) return;
    await this.#followFrontend();
    if (this.#isStatusDue && this.state === XenbusState.Connected) {
      this.#isStatusDue = false;
      await this.#session?.handleStatus();
    }
  }

  /** A report may be older than what we wrote since, so it is looked up again. True if it was the end. */
  async #lookAtOwnState(): Promise<boolean> {
    this.#hasOwnStateChanged = false;
    const found = await readState(this.#options.store, this.path);
    const { state } = this.#device;
    if (found === state) return false;
    if (found === XenbusState.Unknown) await this.#end('removed');
    else if (found === XenbusState.Initialising && state !== XenbusState.Unknown) await this.#end('replaced');
    else if (found === XenbusState.Closing) await this.#end('offline', XenbusState.Closed);
    return this.#isOver;
  }

  async #followFrontend(): Promise<void> {
    const device = this.#device;
    const { state } = device;
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
        if (device.state === XenbusState.InitWait) await this.#connect();
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
    this.#session = new BackendSession({
      device: this.#device,
      host,
      events,
      grantMapper,
      mapDomain,
      ...(mapCountMax === undefined ? {} : { mapCountMax }),
      onStatusWritten: () => {
        this.#isStatusDue = true;
        this.#wake();
      },
      onFault: (error) => {
        this.#pendingFault = { error };
        this.#wake();
      },
    });
    await this.#switchState(XenbusState.InitWait, offerKeys(host));
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
  async #switchState(state: XenbusState, keys: Readonly<Record<string, string>> = {}): Promise<void> {
    if (await this.#device.switchState(state, keys)) return;
    this.#hasOwnStateChanged = true;
    this.#wake();
  }

  async #dropSession(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    this.#isStatusDue = false;
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
    queueMicrotask(() => {
      throw error;
    });
    await this.#end(`failed: ${String(error)}`, XenbusState.Closing);
  }

  /** Lets go of everything and writes the last states, as far as that can be done. */
  async #end(reason: string, ...states: readonly XenbusState[]): Promise<void> {
    this.#isOver = true;
    try {
      await this.#dropSession();
      for (const state of states) await this.#device.switchState(state);
      await this.#device[Symbol.asyncDispose]();
    } catch (error) {
      if (!(error instanceof XenstoreError)) throw error;
    } finally {
      this.#closed.resolve(reason);
    }
  }
}
