import type { Xenstore, XenstoreTransaction, XenstoreTransactionOptions } from '@virtlab/xenstore';
import { overriding } from './overriding.ts';

/**
 * A connection on which so many transactions in a row meet a conflict before one can commit, and so on: `writer` rewrites
 * the state in `path` after the body has run, as a busy toolstack would.
 */
export function conflictingStore(
  store: Xenstore,
  writer: Xenstore,
  path: string,
  conflictCount: number,
): Xenstore {
  let left = conflictCount;
  async function transaction<T>(
    body: (tx: XenstoreTransaction) => Promise<T>,
    options?: XenstoreTransactionOptions,
  ): Promise<T> {
    return await store.transaction(async (tx) => {
      const result = await body(tx);
      if (left > 0) {
        left -= 1;
        await writer.write(`${path}/state`, await writer.read(`${path}/state`));
      } else left = conflictCount;
      return result;
    }, options);
  }
  return overriding<Xenstore>(store, { transaction });
}
