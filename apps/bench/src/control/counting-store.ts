import type { Xenstore, XenstoreAccess } from '@virtlab/xenstore';

/** A xenstore that counts the requests which go through it. */
export interface CountingStore {
  readonly store: Xenstore;
  requestCount(): number;
}

/** `transactionStart` and `transactionEnd`. */
const TRANSACTION_REQUESTS = 2;

export function countRequests(inner: Xenstore): CountingStore {
  let count = 0;
  const counting = <T extends object>(target: T, replace: Partial<T>): T =>
    new Proxy(target, {
      get: (_, name) => {
        const own = replace[name as keyof T];
        if (own !== undefined) return own;
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]): unknown => {
          count += 1;
          return Reflect.apply(value, target, args);
        };
      },
    });
  const transaction: Xenstore['transaction'] = (body, options) =>
    inner.transaction((tx) => {
      count += TRANSACTION_REQUESTS;
      return body(counting<XenstoreAccess & typeof tx>(tx, {}));
    }, options);
  return { store: counting(inner, { transaction }), requestCount: () => count };
}
