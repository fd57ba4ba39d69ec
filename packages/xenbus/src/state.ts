import { XENBUS_KEY_STATE, XenbusState } from '@virtlab/abi/xenbus';
import { type Xenstore, type XenstoreAccess, XenstoreError } from '@virtlab/xenstore';
import { type Pause, transact } from './transact.ts';

/** The state in a directory; Unknown when the node is missing, unreadable or nonsense, as Linux' xenbus_read_driver_state. */
export async function readState(access: XenstoreAccess, path: string): Promise<XenbusState> {
  try {
    return parseState(await access.readText(`${path}/${XENBUS_KEY_STATE}`));
  } catch (error) {
    if (isMissing(error)) return XenbusState.Unknown;
    throw error;
  }
}

/** A state as it is written, in decimal; Unknown for anything else. */
export function parseState(text: string): XenbusState {
  return (/^[0-8]$/.test(text) ? Number(text) : XenbusState.Unknown) as XenbusState;
}

/** What to write, by key below a directory: a text, or undefined to remove the node and all below it. */
export type XenbusKeys = Readonly<Record<string, string | undefined>>;

/**
 * Writes keys of a directory in a transaction that reads its state first: a directory that the toolstack removed is not
 * made again (Linux' __xenbus_switch_state). `mayWrite` is asked about the state that stands there. False if the directory
 * is gone or `mayWrite` says no. Conflicts are retried as `transact` does.
 */
export async function writeKeys(
  store: Xenstore,
  path: string,
  keys: XenbusKeys,
  mayWrite: (state: XenbusState) => boolean = () => true,
  pause?: Pause,
): Promise<boolean> {
  const write = async (tx: XenstoreAccess): Promise<boolean> => {
    const state = await readState(tx, path);
    if (state === XenbusState.Unknown || !mayWrite(state)) return false;
    // Sent one behind the other and executed in this order; only the answers are waited for together.
    await Promise.all(
      Object.entries(keys).map(([key, value]) =>
        value === undefined ? removeNode(tx, `${path}/${key}`) : tx.write(`${path}/${key}`, value),
      ),
    );
    return true;
  };
  return await transact(store, path, write, pause);
}

/**
 * Writes one's own state, with `keys` before it, all in one transaction; false if the directory is gone. For parties without a
 * `XenbusDevice`, which also remembers what it wrote.
 */
export async function switchState(
  store: Xenstore,
  path: string,
  state: XenbusState,
  keys: XenbusKeys = {},
): Promise<boolean> {
  return await writeKeys(store, path, { ...keys, [XENBUS_KEY_STATE]: String(state) });
}

/** Missing, or hidden from us, which is the same to a reader. */
export function isMissing(error: unknown): boolean {
  return error instanceof XenstoreError && (error.code === 'ENOENT' || error.code === 'EACCES');
}

export function stateName(state: XenbusState): string {
  return Object.entries(XenbusState).find(([, value]) => value === state)?.[0] ?? String(state);
}

/** The daemons disagree whether removing a missing node is an error (C: no, unless its parent is missing; OCaml: yes). */
async function removeNode(access: XenstoreAccess, path: string): Promise<void> {
  try {
    await access.rm(path);
  } catch (error) {
    if (!(error instanceof XenstoreError && error.code === 'ENOENT')) throw error;
  }
}
