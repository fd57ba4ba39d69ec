import { XENBUS_KEY_STATE } from '@virtlab/abi/xenbus';
import type { Xenstore, XenstoreWatch } from '@virtlab/xenstore';
import { closeWatch, isLost } from './follow-node.ts';
import { isMissing } from './state.ts';

/** A device directory that is there. */
export interface DeviceDirectory {
  readonly path: string;
  /** Names below the watched directory: `[frontend domain, index]` for backends, `[index]` for frontends. */
  readonly names: readonly string[];
}

export interface DeviceWatchHandlers {
  onAdded(device: DeviceDirectory): void;
  onRemoved(device: DeviceDirectory): void;
}

export interface DeviceWatch extends AsyncDisposable {
  /** Resolves when all that changed before has been reported. */
  settled(): Promise<void>;
}

/**
 * Watches a directory of devices, `depth` levels down (1 for `device/<kind>`, 2 for `backend/<kind>`): `onAdded` once for each
 * directory that appears, `onRemoved` once when it is gone (Linux' xenbus_dev_changed, on one watch). A directory that is
 * removed and made again between two looks was there all the time: its state tells (`XenbusDevice.watchOwnState`). When the
 * connection to the store is lost nothing is reported any more; whoever owns the connection is told.
 */
export async function watchDevices(
  store: Xenstore,
  path: string,
  depth: 1 | 2,
  handlers: DeviceWatchHandlers,
): Promise<DeviceWatch> {
  const scanner = new DeviceScanner(store, path, depth, handlers);
  const watch: XenstoreWatch = await store.watch(path, () => void scanner.scan());
  return {
    settled: () => scanner.scan(),
    [Symbol.asyncDispose]: async () => {
      scanner.close();
      await closeWatch(watch);
    },
  };
}

class DeviceScanner {
  readonly #store: Xenstore;
  readonly #path: string;
  readonly #depth: number;
  readonly #handlers: DeviceWatchHandlers;
  readonly #known = new Map<string, DeviceDirectory>();
  #scanning: Promise<void> | undefined;
  #isStale = false;
  #isClosed = false;

  constructor(store: Xenstore, path: string, depth: number, handlers: DeviceWatchHandlers) {
    this.#store = store;
    this.#path = path;
    this.#depth = depth;
    this.#handlers = handlers;
  }

  close(): void {
    this.#isClosed = true;
  }

  /** One scan at a time; a change meanwhile makes it start over. */
  scan(): Promise<void> {
    this.#isStale = true;
    this.#scanning ??= this.#run();
    return this.#scanning;
  }

  async #run(): Promise<void> {
    try {
      while (this.#isStale && !this.#isClosed) {
        this.#isStale = false;
        this.#compare(await this.#list());
      }
    } catch (error) {
      if (!isLost(error)) throw error;
    } finally {
      this.#scanning = undefined;
    }
  }

  #compare(found: readonly DeviceDirectory[]): void {
    const paths = new Set(found.map((each) => each.path));
    for (const device of [...this.#known.values()].filter((each) => !paths.has(each.path))) {
      if (this.#isClosed) return;
      this.#known.delete(device.path);
      this.#handlers.onRemoved(device);
    }
    for (const device of found.filter((each) => !this.#known.has(each.path))) {
      if (this.#isClosed) return;
      this.#known.set(device.path, device);
      this.#handlers.onAdded(device);
    }
  }

  /** Directories with a `state` in them: without one the toolstack is not done, or they are being removed. */
  async #list(): Promise<DeviceDirectory[]> {
    let found: DeviceDirectory[] = [{ path: this.#path, names: [] }];
    for (let level = 0; level < this.#depth; level += 1) {
      found = (await Promise.all(found.map((each) => this.#children(each)))).flat();
    }
    const complete = await Promise.all(
      found.map((each) => this.#store.exists(`${each.path}/${XENBUS_KEY_STATE}`)),
    );
    return found.filter((_each, index) => complete[index]);
  }

  async #children({ path, names }: DeviceDirectory): Promise<DeviceDirectory[]> {
    try {
      const found = await this.#store.directory(path);
      return found.map((name) => ({ path: `${path}/${name}`, names: [...names, name] }));
    } catch (error) {
      if (isMissing(error)) return [];
      throw error;
    }
  }
}
