import type { Xenstore, XenstoreTransaction, XenstoreTransactionOptions } from '@virtlab/xenstore';
import { overriding } from './overriding.ts';

/**
 * A connection whose every transaction meets a conflict so many times before it can commit: `writer` rewrites the state in
 * `path` after the body has run, as a busy toolstack would.
 */
export function conflictingStore(
  store: Xenstore,
  writer: Xenstore,
  path: string,
  conflictCount: number,
): Xenstore {
  async function transaction<T>(
    body: (tx: XenstoreTransaction) => Promise<T>,
    options?: XenstoreTransactionOptions,
  ): Promise<T> {
    let left = conflictCount;
    return await store.transaction(async (tx) => {
      const result = await body(tx);
      if (left > 0) {
        left -= 1;
        await writer.write(`${path}/state`, await writer.read(`${path}/state`));
      }
      return result;
    }, options);
  }
  return overriding<Xenstore>(store, { transaction });
}
