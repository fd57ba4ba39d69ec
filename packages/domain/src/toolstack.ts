import type { DomId } from '@virtlab/abi/brands';
import { VIRTIO_XENBUS_KIND } from '@virtlab/abi/virtio-xenbus';
import { XENBUS_DIR_ERROR } from '@virtlab/abi/xenbus';
import { type DomainConfig, type DomainProgram, type DomainType, HypercallError } from '@virtlab/hypervisor';
import {
  backendsPath,
  createDevice,
  domainPath,
  isLost,
  isMissing,
  removeDevice,
  transact,
} from '@virtlab/xenbus';
import { type Xenstore, XenstoreError } from '@virtlab/xenstore';
import { type DeviceModelServer, createDeviceModel } from './device-model.ts';
import type { Domain } from './domain.ts';
import { seedXenstoreGrant, xenstoreFrameOf } from './start-of-day.ts';

export interface GuestConfig {
  readonly name: string;
  readonly type: DomainType;
  /** Bytes. */
  readonly ramSize: number;
  readonly program: DomainProgram;
  /** Of its grant table and maptrack; by default all that a machine allows. */
  readonly grantLimits?: DomainConfig['grantLimits'];
}

/** A domain that the toolstack made; not yet running until `start`. */
export interface Guest {
  readonly domain: DomId;
  readonly name: string;
  /** PCI, for HVM. */
  readonly deviceModel: DeviceModelServer | undefined;
  start(): Promise<void>;
}

/** What makes domains and gives them devices, as libxl does; runs in domain 0. */
export interface Toolstack {
  createGuest(config: GuestConfig): Promise<Guest>;
  /** Makes the xenstore directories of a xenbus device; what stood in its place goes. */
  attachXenbusDevice(guest: Guest, kind: string, index: number, keys?: XenbusDeviceKeys): Promise<void>;
  detachXenbusDevice(guest: Guest, kind: string, index: number): Promise<void>;
  /** Asks the domain to power off (`control/shutdown`), waits, and destroys it if it does not. True if it went by itself. */
  shutdownGuest(guest: Guest, timeoutMs: number): Promise<boolean>;
  /** Whatever state it is in, dead ones included: afterwards nothing is left of it in xenstore and in this domain. */
  destroyGuest(guest: Guest): Promise<void>;
}

export interface XenbusDeviceKeys {
  readonly frontend?: Readonly<Record<string, string>>;
  readonly backend?: Readonly<Record<string, string>>;
  /** Which domain serves it, see `serveBackends`. Default: this one. */
  readonly backendDomain?: DomId;
}

export function createToolstack(own: Domain, store: Xenstore): Toolstack {
  return new Libxl(own, store);
}

class Libxl implements Toolstack {
  readonly #own: Domain;
  readonly #store: Xenstore;

  constructor(own: Domain, store: Xenstore) {
    this.#own = own;
    this.#store = store;
  }

  async createGuest({ name, type, ramSize, program, grantLimits }: GuestConfig): Promise<Guest> {
    const own = this.#own;
    const domain = await own.connection.call('domain_create', { name, type, ramSize, grantLimits });
    try {
      const foreign = await own.mapDomain(domain);
      seedXenstoreGrant(foreign, own.id);
      const xenstorePort = await own.connection.call('alloc_unbound', domain, own.id);
      const xenstoreFrame = xenstoreFrameOf(ramSize);
      await this.#writeDomainNodes(domain, name, ramSize, xenstoreFrame, xenstorePort);
      await this.#store.introduce(domain, xenstoreFrame, xenstorePort);
      const deviceModel = type === 'hvm' ? await createDeviceModel(own, domain) : undefined;
      const start = async (): Promise<void> => {
        await own.connection.call('domain_unpause', domain, program, { xenstoreFrame, xenstorePort });
      };
      return { domain, name, deviceModel, start };
    } catch (error) {
      await this.#takeDown(domain);
      throw error;
    }
  }

  async attachXenbusDevice(
    guest: Guest,
    kind: string,
    index: number,
    keys: XenbusDeviceKeys = {},
  ): Promise<void> {
    await createDevice(this.#store, {
      kind,
      index,
      frontendDomain: guest.domain,
      backendDomain: keys.backendDomain ?? this.#own.id,
      frontendKeys: keys.frontend ?? {},
      backendKeys: keys.backend ?? {},
    });
  }

  async detachXenbusDevice(guest: Guest, kind: string, index: number): Promise<void> {
    await removeDevice(this.#store, {
      kind,
      index,
      frontendDomain: guest.domain,
      backendDomain: this.#own.id,
    });
  }

  async shutdownGuest(guest: Guest, timeoutMs: number): Promise<boolean> {
    const ended = this.#ended(guest.domain, timeoutMs);
    await this.#store.write(`/local/domain/${guest.domain}/control/shutdown`, 'poweroff');
    const clean = await ended;
    await this.destroyGuest(guest);
    return clean;
  }

  async destroyGuest(guest: Guest): Promise<void> {
    await guest.deviceModel?.[Symbol.asyncDispose]();
    await this.#takeDown(guest.domain);
  }

  /** The domain may die by itself between any two steps: what is gone already is not missed. */
  async #takeDown(domain: DomId): Promise<void> {
    const own = this.#own;
    const store = this.#store;
    await ignoring(['ESRCH'], own.connection.call('domain_destroy', domain));
    if (await store.isDomainIntroduced(domain)) await ignoring(['ENOENT'], store.release(domain));
    const [home, backends] = [domainPath(own.id), backendsPath(own.id, VIRTIO_XENBUS_KIND)];
    const errors = `${home}/${XENBUS_DIR_ERROR}/${backends.slice(home.length + 1)}`;
    const nodes = [
      domainPath(domain),
      `/vm/${vmUuid(domain)}`,
      `${backends}/${domain}`,
      `${errors}/${domain}`,
    ];
    for (const path of nodes) await ignoring(['ENOENT'], store.rm(path));
    for (const path of [backends, errors]) await this.#removeIfEmpty(path, home);
    await own.connection.unmapDomain(domain);
  }

  /** And those above it, up to `home` (libxl__xs_path_cleanup). */
  async #removeIfEmpty(path: string, home: string): Promise<void> {
    if (path === home) return;
    await transact(this.#store, path, async (tx) => {
      if ((await tx.exists(path)) && (await tx.directory(path)).length === 0) await tx.rm(path);
    });
    if (!(await this.#store.exists(path)))
      await this.#removeIfEmpty(path.slice(0, path.lastIndexOf('/')), home);
  }

  /** Resolves when the domain is gone (true) or the time is over (false). */
  async #ended(domain: DomId, timeoutMs: number): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const look = async (): Promise<void> => {
      const info = await this.#own.connection.call('domain_info');
      if (!info.some((each) => each.domain === domain)) resolve(true);
    };
    const watch = await this.#store.watch('@releaseDomain', () => void look().catch(() => resolve(false)));
    const timer = this.#own.aio.createTimer(() => resolve(false));
    timer.arm(timeoutMs);
    void promise.then(async () => {
      timer[Symbol.dispose]();
      await watch.close();
    });
    return await promise;
  }

  async #writeDomainNodes(
    domain: DomId,
    name: string,
    ramSize: number,
    xenstoreFrame: number,
    xenstorePort: number,
  ): Promise<void> {
    const path = `/local/domain/${domain}`;
    const vm = `/vm/${vmUuid(domain)}`;
    const readable = [
      { domid: this.#own.id, access: 'n' },
      { domid: domain, access: 'r' },
    ] as const;
    const owned = [{ domid: domain, access: 'n' }] as const;
    await transact(this.#store, path, async (tx) => {
      await tx.mkdir(path);
      await tx.setPermissions(path, readable);
      await tx.mkdir(vm);
      await tx.setPermissions(vm, readable);
      await tx.write(`${vm}/name`, name);
      await tx.write(`${vm}/uuid`, vmUuid(domain));
      const nodes = {
        name,
        domid: String(domain),
        vm,
        'memory/target': String(ramSize / 1024),
        'store/ring-ref': String(xenstoreFrame),
        'store/port': String(xenstorePort),
      };
      for (const [key, value] of Object.entries(nodes)) await tx.write(`${path}/${key}`, value);
      for (const key of ['control', 'control/shutdown', 'data', 'device']) {
        await tx.mkdir(`${path}/${key}`);
        await tx.setPermissions(`${path}/${key}`, key === 'device' ? readable : owned);
      }
    });
  }
}

/** Unique in a machine's life, as domain ids are. */
function vmUuid(domain: DomId): string {
  return `00000000-0000-4000-8000-${domain.toString(16).padStart(12, '0')}`;
}

/** Calls `onShutdown` once when the toolstack asks this domain to power off. */
export async function onShutdownRequest(
  store: Xenstore,
  domain: DomId,
  onShutdown: () => void,
): Promise<AsyncDisposable> {
  const path = `${domainPath(domain)}/control/shutdown`;
  const look = async (): Promise<void> => {
    try {
      if ((await store.readText(path)) === 'poweroff') onShutdown();
    } catch (error) {
      // The toolstack is taking us down, or xenstored died: there is nobody to obey.
      if (!isMissing(error) && !isLost(error)) throw error;
    }
  };
  const watch = await store.watch(path, () => void look());
  return { [Symbol.asyncDispose]: () => watch.close() };
}

/** Waits for an operation that may find its work done: these errors say so. */
async function ignoring(codes: readonly string[], operation: Promise<unknown>): Promise<void> {
  try {
    await operation;
  } catch (error) {
    const isKnown = error instanceof HypercallError || error instanceof XenstoreError;
    if (!isKnown || !codes.includes(error.code)) throw error;
  }
}
