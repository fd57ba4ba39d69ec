import {
  XENBUS_KEY_BACKEND,
  XENBUS_KEY_BACKEND_ID,
  XENBUS_KEY_FRONTEND,
  XENBUS_KEY_FRONTEND_ID,
  XENBUS_KEY_ONLINE,
  XENBUS_KEY_STATE,
  XenbusState,
} from '@virtlab/abi/xenbus';
import type { Xenstore, XenstoreAccess, XenstorePermission } from '@virtlab/xenstore';
import { type DeviceId, backendPath, backendsPath, frontendPath, frontendsPath } from './paths.ts';
import { followNode } from './follow-node.ts';
import { parseState, readState } from './state.ts';
import { transact } from './transact.ts';

export interface DeviceDescription extends DeviceId {
  readonly frontendKeys?: Readonly<Record<string, string>>;
  readonly backendKeys?: Readonly<Record<string, string>>;
}

/**
 * Makes both directories of a device in one transaction, as libxl does (libxl_device.c): a backend that sees its half
 * sees all of it. What stood there is removed.
 */
export async function createDevice(store: Xenstore, device: DeviceDescription): Promise<void> {
  const { frontendDomain, backendDomain, frontendKeys = {}, backendKeys = {} } = device;
  const front = frontendPath(device);
  const back = backendPath(device);
  await transact(store, backendPath(device), async (tx) => {
    await makeDirectory(tx, front, [
      { domid: frontendDomain, access: 'n' },
      { domid: backendDomain, access: 'r' },
    ]);
    await makeDirectory(tx, back, [
      { domid: backendDomain, access: 'n' },
      { domid: frontendDomain, access: 'r' },
    ]);
    await writeAll(tx, front, {
      [XENBUS_KEY_BACKEND]: back,
      [XENBUS_KEY_BACKEND_ID]: String(backendDomain),
      ...frontendKeys,
      [XENBUS_KEY_STATE]: String(XenbusState.Initialising),
    });
    await writeAll(tx, back, {
      [XENBUS_KEY_FRONTEND]: front,
      [XENBUS_KEY_FRONTEND_ID]: String(frontendDomain),
      [XENBUS_KEY_ONLINE]: '1',
      ...backendKeys,
      [XENBUS_KEY_STATE]: String(XenbusState.Initialising),
    });
  });
}

/**
 * Asks for an orderly end: the backend is no longer online and closing, unless it is Closed already. The frontend moves
 * next; `removeDevice` follows once the backend is Closed, see `detachDevice`.
 */
export async function offlineDevice(store: Xenstore, device: DeviceId): Promise<void> {
  const back = backendPath(device);
  await transact(store, backendPath(device), async (tx) => {
    const state = await readState(tx, back);
    if (state === XenbusState.Unknown) return;
    await tx.write(`${back}/${XENBUS_KEY_ONLINE}`, '0');
    if (state === XenbusState.Closed) return;
    await tx.write(`${back}/${XENBUS_KEY_STATE}`, String(XenbusState.Closing));
  });
}

export interface DetachOptions {
  /** Ends the wait: the device is then removed whatever its ends are doing (libxl's destroy). Without it none ends it. */
  readonly signal?: AbortSignal;
}

/**
 * Takes a device away in order (libxl__initiate_device_generic_remove): offline and Closing, the wait for the backend's
 * Closed, which follows the frontend's, then both directories. True when the ends went by themselves, false when the
 * device was removed by force.
 */
export async function detachDevice(
  store: Xenstore,
  device: DeviceId,
  { signal }: DetachOptions = {},
): Promise<boolean> {
  const closed = Promise.withResolvers<boolean>();
  const force = (): void => closed.resolve(false);
  const follower = await followNode(store, `${backendPath(device)}/${XENBUS_KEY_STATE}`, (text) => {
    if (text === undefined || parseState(text) === XenbusState.Closed) closed.resolve(true);
  });
  signal?.addEventListener('abort', force, { once: true });
  try {
    await offlineDevice(store, device);
    if (signal?.aborted === true) force();
    const isOrderly = await closed.promise;
    await removeDevice(store, device);
    return isOrderly;
  } finally {
    signal?.removeEventListener('abort', force);
    await follower[Symbol.asyncDispose]();
  }
}

/**
 * Removes both directories at once, whatever the two ends are doing, and those above that held nothing else, up to the
 * one of the kind (libxl__xs_path_cleanup).
 */
export async function removeDevice(store: Xenstore, device: DeviceId): Promise<void> {
  const { kind, frontendDomain, backendDomain } = device;
  const backends = backendsPath(backendDomain, kind);
  await transact(store, backendPath(device), async (tx) => {
    for (const path of [frontendPath(device), backendPath(device)]) {
      if (await tx.exists(path)) await tx.rm(path);
    }
    const emptied = [frontendsPath(frontendDomain, kind), `${backends}/${frontendDomain}`, backends];
    for (const path of emptied) {
      if ((await tx.exists(path)) && (await tx.directory(path)).length === 0) await tx.rm(path);
    }
  });
}

async function makeDirectory(
  tx: XenstoreAccess,
  path: string,
  permissions: readonly XenstorePermission[],
): Promise<void> {
  if (await tx.exists(path)) await tx.rm(path);
  await tx.mkdir(path);
  await tx.setPermissions(path, permissions);
}

async function writeAll(
  tx: XenstoreAccess,
  path: string,
  keys: Readonly<Record<string, string>>,
): Promise<void> {
  for (const [key, value] of Object.entries(keys)) await tx.write(`${path}/${key}`, value);
}
