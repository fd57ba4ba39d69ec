import type { Xenstore, XenstoreTransaction } from '@virtlab/xenstore';
import { overriding } from './overriding.ts';

const REQUESTS = ['read', 'readText', 'write', 'mkdir', 'rm', 'directory', 'exists'] as const;

/**
 * A connection that awaits `tap` after each of its operations, before whoever asked gets the answer: node operations, within a
 * transaction or not, the end of a transaction, and watches.
 */
export function tappedStore(store: Xenstore, tap: () => Promise<void>): Xenstore {
  const tapped = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } finally {
      await tap();
    }
  };
  const requestsOf = <T extends Xenstore | XenstoreTransaction>(target: T): Partial<T> =>
    Object.fromEntries(
      REQUESTS.map((name) => [
        name,
        (...args: readonly [never, never]) => tapped<unknown>(target[name](...args)),
      ]),
    ) as Partial<T>;
  return overriding<Xenstore>(store, {
    ...requestsOf(store),
    transaction: (body, options) =>
      tapped(store.transaction((tx) => body(overriding(tx, requestsOf(tx))), options)),
    watch: (path, handler, options) => tapped(store.watch(path, handler, options)),
  });
}
