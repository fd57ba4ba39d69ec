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
import { readState } from './state.ts';

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
  await store.transaction(async (tx) => {
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

/** Asks for an orderly end: the backend is no longer online and closing. `removeDevice` follows once both are Closed. */
export async function offlineDevice(store: Xenstore, device: DeviceId): Promise<void> {
  const back = backendPath(device);
  await store.transaction(async (tx) => {
    if ((await readState(tx, back)) === XenbusState.Unknown) return;
    await tx.write(`${back}/${XENBUS_KEY_ONLINE}`, '0');
    await tx.write(`${back}/${XENBUS_KEY_STATE}`, String(XenbusState.Closing));
  });
}

/**
 * Removes both directories at once, whatever the two ends are doing, and those above that held nothing else, up to the
 * one of the kind (libxl__xs_path_cleanup).
 */
export async function removeDevice(store: Xenstore, device: DeviceId): Promise<void> {
  const { kind, frontendDomain, backendDomain } = device;
  const backends = backendsPath(backendDomain, kind);
  await store.transaction(async (tx) => {
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
