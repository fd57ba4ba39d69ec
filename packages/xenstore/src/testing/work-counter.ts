type Method = (this: unknown, ...parameters: unknown[]) => unknown;

const COUNTED: readonly (readonly [object, readonly string[]])[] = [
  [Map.prototype, ['get', 'set', 'has', 'delete']],
  [Set.prototype, ['add', 'has', 'delete']],
  [Object.getPrototypeOf(new Map().values()) as object, ['next']],
  [Object.getPrototypeOf(new Set().values()) as object, ['next']],
];

/**
 * How much of the store's maps and sets `action` touches: what its time grows with, without a clock. Synchronous, and
 * nothing else may run meanwhile: the methods themselves are replaced for as long as it takes.
 */
export function workOf(action: () => void): number {
  let total = 0;
  const originals: (() => void)[] = [];
  for (const [prototype, names] of COUNTED) {
    for (const name of names) {
      const original = Object.getOwnPropertyDescriptor(prototype, name)!;
      const method = original.value as Method;
      const counting: Method = function (...parameters) {
        total += 1;
        return Reflect.apply(method, this, parameters);
      };
      Object.defineProperty(prototype, name, { ...original, value: counting });
      originals.push(() => Object.defineProperty(prototype, name, original));
    }
  }
  try {
    action();
  } finally {
    for (const restore of originals) restore();
  }
  return total;
}
