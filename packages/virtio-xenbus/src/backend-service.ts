import { type DomId, domId } from '@virtlab/abi/brands';
import { VIRTIO_XENBUS_KIND } from '@virtlab/abi/virtio-xenbus';
import { DOMID_FIRST_RESERVED } from '@virtlab/abi/xen';
import { XENBUS_KEY_STATE, XenbusState } from '@virtlab/abi/xenbus';
import type { AioContext } from '@virtlab/aio';
import type { EventChannels } from '@virtlab/event-channel';
import type { GrantMapper } from '@virtlab/grant-table';
import { DeviceHost, type DeviceHostOptions, type VirtioDevice } from '@virtlab/virtio';
import {
  type DeviceDirectory,
  type DeviceId,
  type DeviceWatch,
  XenbusError,
  backendsPath,
  isLost,
  isMissing,
  readState,
  watchDevices,
} from '@virtlab/xenbus';
import type { Xenstore } from '@virtlab/xenstore';
import type { VirtioXenbusBackend } from './backend-contract.ts';
import { serveVirtioXenbus } from './backend.ts';

export interface VirtioBackendsOptions {
  /** The own domain's connection. */
  readonly store: Xenstore;
  /** The own domain. */
  readonly domain: DomId;
  readonly events: EventChannels;
  readonly grantMapper: GrantMapper;
  /** As for `serveVirtioXenbus`. */
  readonly mapDomain: (domain: DomId) => Promise<unknown>;
  readonly aio: AioContext;
  /**
   * Makes the device for a directory that appeared; `keys` are the values that the toolstack put there. Undefined leaves the
   * directory alone.
   */
  readonly createDevice: (
    id: DeviceId,
    keys: ReadonlyMap<string, string>,
  ) => VirtioDevice | undefined | Promise<VirtioDevice | undefined>;
  /** The model in front of the device made for `id`, each time it is served anew. */
  readonly onHost?: (host: DeviceHost, id: DeviceId) => void;
  /** The device made for `id` is not served any more; see `VirtioXenbusBackend.closed`. */
  readonly onClosed?: (id: DeviceId, device: VirtioDevice, reason: string) => void;
  /** What every device's host is given. */
  readonly hostOptions?: Pick<DeviceHostOptions, 'polling' | 'onViolation' | 'onError'>;
  readonly mapCountMax?: number;
}

/** Serves every virtio device of a domain. Disposing of it closes them all. */
export interface VirtioBackends extends AsyncDisposable {
  /** Being served now. */
  readonly backends: readonly VirtioXenbusBackend[];
  /** Resolves once every device whose directory was removed before has let go of its frontend. */
  idle(): Promise<void>;
}

/** Serves each device whose directory is, or will be, below `/local/domain/<domain>/backend/virtio`. */
export async function watchVirtioBackends(options: VirtioBackendsOptions): Promise<VirtioBackends> {
  const service = new BackendService(options);
  await service.start();
  return service;
}

class BackendService implements VirtioBackends {
  readonly #options: VirtioBackendsOptions;
  readonly #entries = new Map<string, ServedDirectory>();
  /** Ended, but perhaps not yet done. */
  readonly #ending = new Set<Promise<void>>();
  #watch: DeviceWatch | undefined;

  constructor(options: VirtioBackendsOptions) {
    this.#options = options;
  }

  get backends(): readonly VirtioXenbusBackend[] {
    return [...this.#entries.values()].flatMap((entry) => entry.backend ?? []);
  }

  async start(): Promise<void> {
    const { store, domain } = this.#options;
    this.#watch = await watchDevices(store, backendsPath(domain, VIRTIO_XENBUS_KIND), 2, {
      onAdded: (directory) => this.#add(directory),
      onRemoved: (directory) => this.#remove(directory),
    });
  }

  async idle(): Promise<void> {
    await this.#watch?.settled();
    await Promise.all(this.#ending);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#watch?.[Symbol.asyncDispose]();
    for (const path of this.#entries.keys()) this.#drop(path);
    await Promise.all(this.#ending);
  }

  #add(directory: DeviceDirectory): void {
    const id = deviceIdOf(directory, this.#options.domain);
    if (id !== undefined)
      this.#entries.set(directory.path, new ServedDirectory(this.#options, directory.path, id));
  }

  #remove({ path }: DeviceDirectory): void {
    this.#drop(path);
  }

  #drop(path: string): void {
    const entry = this.#entries.get(path);
    this.#entries.delete(path);
    if (entry === undefined) return;
    const ended = entry[Symbol.asyncDispose]();
    this.#ending.add(ended);
    void ended.then(() => this.#ending.delete(ended));
  }
}

/** One directory, served anew whenever the toolstack makes it anew. */
class ServedDirectory implements AsyncDisposable {
  readonly #options: VirtioBackendsOptions;
  readonly #path: string;
  readonly #id: DeviceId;
  readonly #ended: Promise<void>;
  readonly #dropped = Promise.withResolvers<void>();
  #isDropped = false;
  /** Of the directory's state; the watch's first event is one. */
  #changeCount = 0;
  #change = Promise.withResolvers<void>();
  backend: VirtioXenbusBackend | undefined;

  constructor(options: VirtioBackendsOptions, path: string, id: DeviceId) {
    this.#options = options;
    this.#path = path;
    this.#id = id;
    this.#ended = this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDropped = true;
    this.#dropped.resolve();
    await this.backend?.[Symbol.asyncDispose]();
    await this.#ended;
  }

  async #run(): Promise<void> {
    try {
      const { store, createDevice } = this.#options;
      const firstEvent = this.#change.promise;
      await using _ = await store.watch(`${this.#path}/${XENBUS_KEY_STATE}`, () => this.#noteChange());
      await Promise.race([firstEvent, this.#dropped.promise]);
      while (!this.#isDropped) {
        const before = this.#changeCount;
        const device = await createDevice(this.#id, await this.#readKeys());
        if (device !== undefined) await this.#serve(device);
        await this.#untilMadeAnew(before);
      }
    } catch (error) {
      if (!isLost(error)) throw error;
    }
  }

  #noteChange(): void {
    this.#changeCount += 1;
    this.#change.resolve();
    this.#change = Promise.withResolvers<void>();
  }

  async #serve(device: VirtioDevice): Promise<void> {
    const { store, events, grantMapper, aio, hostOptions, mapCountMax, mapDomain } = this.#options;
    using host = new DeviceHost({ ...hostOptions, device, aio, name: this.#path });
    this.#options.onHost?.(host, this.#id);
    let reason: string;
    try {
      this.backend = await serveVirtioXenbus({
        store,
        path: this.#path,
        host,
        events,
        grantMapper,
        mapDomain,
        aio,
        ...(mapCountMax === undefined ? {} : { mapCountMax }),
      });
      if (this.#isDropped) await this.backend[Symbol.asyncDispose]();
      reason = await this.backend.closed;
    } catch (error) {
      if (!(error instanceof XenbusError)) throw error;
      reason = error.message; // the directory names no frontend, or went before it could be read
    } finally {
      this.backend = undefined;
    }
    this.#options.onClosed?.(this.#id, device, reason);
  }

  /** The toolstack's keys, for the choice of the device. */
  async #readKeys(): Promise<ReadonlyMap<string, string>> {
    const { store } = this.#options;
    try {
      const names = await store.directory(this.#path);
      const values = await Promise.all(names.map((name) => store.readText(`${this.#path}/${name}`)));
      return new Map(names.map((name, index) => [name, values[index]!]));
    } catch (error) {
      if (isMissing(error)) return new Map();
      throw error;
    }
  }

  /** Initialising again, after a change: what is served has another state, and what is left alone does not change. */
  async #untilMadeAnew(before: number): Promise<void> {
    while (!this.#isDropped) {
      const nextChange = this.#change.promise;
      const hasChanged = this.#changeCount > before;
      if (hasChanged && (await readState(this.#options.store, this.#path)) === XenbusState.Initialising)
        return;
      await Promise.race([nextChange, this.#dropped.promise]);
    }
  }
}

/** Undefined for a directory that is no device's. */
function deviceIdOf({ names }: DeviceDirectory, backendDomain: DomId): DeviceId | undefined {
  const [domainText = '', indexText = ''] = names;
  const frontendDomain = /^\d{1,5}$/.test(domainText) ? Number(domainText) : DOMID_FIRST_RESERVED;
  if (frontendDomain >= DOMID_FIRST_RESERVED || !/^\d{1,9}$/.test(indexText)) return undefined;
  return {
    kind: VIRTIO_XENBUS_KIND,
    index: Number(indexText),
    frontendDomain: domId(frontendDomain),
    backendDomain,
  };
}
