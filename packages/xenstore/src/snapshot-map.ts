/** Entries per page before it is split in two. */
const PAGE_COUNT = 32;

interface Leaf<V> {
  readonly keys: readonly string[];
  readonly values: readonly V[];
  readonly parts: undefined;
}

interface Branch<V> {
  /** The smallest key below each part. */
  readonly keys: readonly string[];
  readonly values: undefined;
  readonly parts: readonly Page<V>[];
}

type Page<V> = Leaf<V> | Branch<V>;

/**
 * An immutable map with its keys in the order of their characters: the children of a node, or a count per domain.
 * A change makes a new map that shares all but the pages on the way (a B-tree with pages of 32), so that keeping an
 * old map costs nothing and a change costs the logarithm of the size. A change that changes nothing returns the map
 * itself, which is how one learns by comparison of references that nothing changed.
 */
export class SnapshotMap<V> {
  readonly count: number;
  readonly #root: Page<V>;

  private constructor(root: Page<V>, count: number) {
    this.#root = root;
    this.count = count;
  }

  static empty<V>(): SnapshotMap<V> {
    return new SnapshotMap<V>({ keys: [], values: [], parts: undefined }, 0);
  }

  get(key: string): V | undefined {
    let page = this.#root;
    while (page.parts !== undefined) page = page.parts[partIndex(page.keys, key)]!;
    const index = position(page.keys, key);
    return page.keys[index] === key ? page.values[index] : undefined;
  }

  has(key: string): boolean {
    return this.get(key) !== undefined;
  }

  set(key: string, value: V): SnapshotMap<V> {
    const old = this.get(key);
    if (old === value) return this;
    if (old !== undefined) return new SnapshotMap(replace(this.#root, key, value), this.count);
    const pages = put(this.#root, key, value);
    const root = pages.length === 1 ? pages[0]! : branch(pages);
    return new SnapshotMap(root, this.count + 1);
  }

  delete(key: string): SnapshotMap<V> {
    if (!this.has(key)) return this;
    let root = remove(this.#root, key);
    while (root.parts?.length === 1) root = root.parts[0]!;
    return new SnapshotMap(root, this.count - 1);
  }

  keys(): IterableIterator<string> {
    return keysOf(this.#root);
  }

  entries(): IterableIterator<readonly [key: string, value: V]> {
    return entriesOf(this.#root);
  }
}

function* keysOf(page: Page<unknown>): IterableIterator<string> {
  if (page.parts === undefined) yield* page.keys;
  else for (const part of page.parts) yield* keysOf(part);
}

function* entriesOf<V>(page: Page<V>): IterableIterator<readonly [string, V]> {
  if (page.parts === undefined) {
    for (const [index, key] of page.keys.entries()) yield [key, page.values[index]!];
  } else {
    for (const part of page.parts) yield* entriesOf(part);
  }
}

/** Index of the first key that is not smaller. */
function position(keys: readonly string[], key: string): number {
  let low = 0;
  let high = keys.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (keys[middle]! < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Index of the part that has the key, if any has. */
function partIndex(keys: readonly string[], key: string): number {
  const index = position(keys, key);
  return keys[index] === key ? index : Math.max(0, index - 1);
}

function branch<V>(parts: readonly Page<V>[]): Branch<V> {
  return { keys: parts.map(({ keys }) => keys[0]!), values: undefined, parts };
}

/** The page with another value for a key that is in it: most of all changes, for every ancestor of a changed node. */
function replace<V>(page: Page<V>, key: string, value: V): Page<V> {
  if (page.parts === undefined) {
    const values = page.values.slice();
    values[position(page.keys, key)] = value;
    return { keys: page.keys, values, parts: undefined };
  }
  const index = partIndex(page.keys, key);
  const parts = page.parts.slice();
  parts[index] = replace(page.parts[index]!, key, value);
  return { keys: page.keys, values: undefined, parts };
}

/** The page with an entry that it does not have yet, as one page or two. */
function put<V>(page: Page<V>, key: string, value: V): Page<V>[] {
  if (page.parts !== undefined) {
    const index = partIndex(page.keys, key);
    const parts = page.parts.toSpliced(index, 1, ...put(page.parts[index]!, key, value));
    if (parts.length <= PAGE_COUNT) return [branch(parts)];
    return [branch(parts.slice(0, parts.length >>> 1)), branch(parts.slice(parts.length >>> 1))];
  }
  const index = position(page.keys, key);
  const keys = page.keys.toSpliced(index, 0, key);
  const values = page.values.toSpliced(index, 0, value);
  if (keys.length <= PAGE_COUNT) return [{ keys, values, parts: undefined }];
  // Names are often made in rising order: then full pages stay behind, not halves.
  const middle = index === keys.length - 1 ? index : keys.length >>> 1;
  return [
    { keys: keys.slice(0, middle), values: values.slice(0, middle), parts: undefined },
    { keys: keys.slice(middle), values: values.slice(middle), parts: undefined },
  ];
}

/** The page without the entry, which is in it. Pages that became small are joined with a neighbour. */
function remove<V>(page: Page<V>, key: string): Page<V> {
  if (page.parts === undefined) {
    const index = position(page.keys, key);
    const values = page.values.toSpliced(index, 1);
    return { keys: page.keys.toSpliced(index, 1), values, parts: undefined };
  }
  const index = partIndex(page.keys, key);
  const part = remove(page.parts[index]!, key);
  if (part.keys.length === 0) return branch(page.parts.toSpliced(index, 1));
  const other = index > 0 ? index - 1 : index + 1;
  const neighbour = page.parts[other];
  if (neighbour === undefined || part.keys.length + neighbour.keys.length > PAGE_COUNT / 2) {
    return branch(page.parts.with(index, part));
  }
  const [left, right] = other < index ? [neighbour, part] : [part, neighbour];
  return branch(page.parts.toSpliced(Math.min(index, other), 2, joined(left, right)));
}

function joined<V>(left: Page<V>, right: Page<V>): Page<V> {
  if (left.parts !== undefined && right.parts !== undefined) return branch([...left.parts, ...right.parts]);
  if (left.parts !== undefined || right.parts !== undefined)
    throw new Error('Pages of one level differ in kind');
  return {
    keys: [...left.keys, ...right.keys],
    values: [...left.values, ...right.values],
    parts: undefined,
  };
}
