import { type Xenstore, XenstoreError, type XenstoreTransaction } from '@virtlab/xenstore';
import { XenbusError } from './errors.ts';

/** Lets others run for about `delayMs`; 0 is the shortest there is. */
export type Pause = (delayMs: number) => Promise<void>;

/** Conflicts in a row after which a transaction is given up: Linux never gives up, which hangs its caller instead. */
const ATTEMPTS_MAX = 64;
/** Conflicts that are retried at once. */
const HASTY_ATTEMPTS = 3;
const PAUSE_MAX_MS = 8;

/**
 * A transaction that is made again when it meets a conflict, after pauses that grow from none to 8 ms. Rejects with
 * `XenbusError` EAGAIN, naming `path`, after 64 conflicts in a row. Without a `pause` of the caller's, who may have a clock,
 * it waits by asking the store something, once for each millisecond.
 */
export async function transact<T>(
  store: Xenstore,
  path: string,
  body: (tx: XenstoreTransaction) => Promise<T>,
  pause: Pause = roundTrips(store, path),
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await store.transaction(body, { retries: 0 });
    } catch (error) {
      if (!isConflict(error)) throw error;
      if (attempt === ATTEMPTS_MAX) {
        throw new XenbusError('EAGAIN', path, `${attempt} transactions in a row met a conflict`, {
          cause: error,
        });
      }
    }
    const doublings = attempt - HASTY_ATTEMPTS;
    await pause(doublings < 0 ? 0 : Math.min(2 ** doublings, PAUSE_MAX_MS));
  }
}

/**
 * EAGAIN at its end; and EIO within it: the C daemon gives a transaction nodes as they are when it first touches them, so
 * one that meets half of a removal sees children that are not there. A connection that is lost cannot start another.
 */
function isConflict(error: unknown): boolean {
  if (!(error instanceof XenstoreError)) return false;
  return error.code === 'EAGAIN' || (error.code === 'EIO' && error.op !== 'TRANSACTION_START');
}

function roundTrips(store: Xenstore, path: string): Pause {
  return async (delayMs) => {
    for (let count = 0; count <= delayMs; count += 1) await store.exists(path);
  };
}
