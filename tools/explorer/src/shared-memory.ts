import { type Access, type AccessKind, extract, insert } from './action.ts';
import { isRunning, perform } from './running.ts';

/** The views that ring code takes; the shape of a `MemoryRegion` of `@virtlab/guest-memory`. */
export interface SharedRegion {
  readonly size: number;
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
}

type View = Uint8Array | Uint16Array | Uint32Array | Int32Array;

interface Attached {
  readonly array: View;
  readonly isSigned: boolean;
}

/** What a proxy stands for. */
const attached = new WeakMap<object, Attached>();
/** Buffers of which every access is a step. */
const buffers = new WeakSet<ArrayBufferLike>();

/**
 * Memory that the threads of an exploration share. All elements of its views are watched: `array[i]` is a plain access,
 * `Atomics` (while an exploration runs) an atomic one. Outside of threads the views are ordinary memory.
 */
export class SharedMemory {
  readonly bytes: Uint8Array;
  readonly region: SharedRegion;
  readonly #names = new Map<number, string>();

  /** `size` in bytes; rounded up to a multiple of 8. */
  constructor(size: number) {
    const buffer = new ArrayBuffer(Math.ceil(size / 8) * 8);
    buffers.add(buffer);
    this.bytes = new Uint8Array(buffer);
    this.region = {
      size: buffer.byteLength,
      u8: watch(new Uint8Array(buffer)),
      u16: watch(new Uint16Array(buffer)),
      u32: watch(new Uint32Array(buffer)),
      i32: watch(new Int32Array(buffer)),
    };
  }

  /** Gives a place a name, in traces and for `Shared` and `compareThreads`. */
  name(offset: number, name: string): this {
    this.#names.set(offset, name);
    return this;
  }

  nameOf(offset: number): string | undefined {
    return this.#names.get(offset);
  }

  offsetOf(name: string): number | undefined {
    for (const [offset, each] of this.#names) if (each === name) return offset;
    return undefined;
  }
}

/** The members of a typed array that do not touch its elements. */
const HARMLESS = new Set<PropertyKey>([
  'length',
  'byteLength',
  'byteOffset',
  'buffer',
  'BYTES_PER_ELEMENT',
  'constructor',
  Symbol.toStringTag,
]);

function watch<T extends View>(array: T): T {
  const proxy = new Proxy(array, {
    get(target, key) {
      const index = elementIndex(key);
      if (index !== undefined) return isRunning() ? access(target, 'load', index, 0) : target[index];
      if (key === 'subarray') return (from?: number, to?: number) => watch(target.subarray(from, to) as T);
      const value: unknown = Reflect.get(target, key, target);
      if (isRunning() && !HARMLESS.has(key))
        throw new TypeError(`${String(key)} of shared memory is not one step; use elements`);
      return typeof value === 'function' ? value.bind(target) : value;
    },
    set(target, key, value: number) {
      const index = elementIndex(key);
      if (index === undefined) return Reflect.set(target, key, value, target);
      if (isRunning()) access(target, 'store', index, value);
      else target[index] = value;
      return true;
    },
  });
  attached.set(proxy, { array, isSigned: array instanceof Int32Array });
  return proxy;
}

function elementIndex(key: PropertyKey): number | undefined {
  if (typeof key !== 'string') return undefined;
  const first = key.charCodeAt(0);
  return first >= 48 && first <= 57 ? Number(key) : undefined;
}

function access(
  array: View,
  kind: AccessKind,
  index: number,
  value: number,
  replacement: number = 0,
): number {
  if (!(index >= 0 && index < array.length)) throw new RangeError(`Element ${index} of ${array.length}`);
  return perform(accessTo(array, kind, index, value, replacement));
}

function accessTo(array: View, kind: AccessKind, index: number, value: number, replacement: number): Access {
  const width = array.BYTES_PER_ELEMENT as 1 | 2 | 4;
  const offset = array.byteOffset + index * width;
  return { kind, offset, width, isSigned: array instanceof Int32Array, value, replacement };
}

/** `Atomics` as it is called here. */
type Operation = (array: View, index: number, value?: number, replacement?: number) => number;
const OPERATIONS = {
  load: 'atomicLoad',
  store: 'atomicStore',
  exchange: 'exchange',
  compareExchange: 'compareExchange',
  or: 'or',
  and: 'and',
  xor: 'xor',
  add: 'add',
  sub: 'sub',
} as const;

/**
 * Makes `Atomics` know shared memory, until the returned function is called. Within a thread `Atomics` on anything else is
 * refused: it would be a wait or a word that the exploration does not see.
 */
export function watchAtomics(): () => void {
  const originals = Object.fromEntries(
    (Object.keys(OPERATIONS) as (keyof typeof OPERATIONS)[]).map((name) => [name, Atomics[name]]),
  );
  for (const [name, kind] of Object.entries(OPERATIONS)) {
    const original = originals[name] as unknown as Operation;
    const watched: Operation = (given, index, value = 0, replacement = 0) => {
      const known = attached.get(given);
      const array = known?.array ?? given;
      if (!isRunning())
        return kind === 'compareExchange'
          ? original(array, index, value, replacement)
          : original(array, index, value);
      if (known === undefined && !buffers.has(array.buffer))
        throw new TypeError('Atomics on memory that the exploration does not share');
      const result = access(array, kind, index, value, replacement);
      return kind === 'atomicStore' ? value : result;
    };
    Object.assign(Atomics, { [name]: watched });
  }
  return () => void Object.assign(Atomics, originals);
}

/** Words of the memory, by index of 4 bytes, little-endian. */
export function wordAt(bytes: Uint8Array, word: number): number {
  let value = 0;
  for (let byte = 0; byte < 4; byte++) value = insert(value, byte, 1, bytes[word * 4 + byte] ?? 0);
  return value;
}

export function putWord(bytes: Uint8Array, word: number, value: number): void {
  for (let byte = 0; byte < 4; byte++) bytes[word * 4 + byte] = extract(value, byte, 1, false);
}
