/** One registration. `path` is canonical; `hiddenSize` leading characters are cut from the paths of its events. */
export interface WatchRecord<Owner> {
  readonly owner: Owner;
  readonly path: string;
  readonly token: string;
  readonly hiddenSize: number;
  /** Levels below `path` that it still hears of; absent or negative: all. */
  readonly depth?: number;
  /** Registration order, over all owners. */
  readonly sequence: number;
}

class WatchDirectory<Owner> {
  readonly watches = new Set<WatchRecord<Owner>>();
  readonly children = new Map<string, WatchDirectory<Owner>>();
}

/**
 * Watches by path component: finding those that a change concerns costs the depth of the path plus the watches
 * found, however many others exist. Special names (`@…`) are top-level entries of their own.
 */
export class WatchIndex<Owner> {
  readonly #root = new WatchDirectory<Owner>();
  readonly #special = new Map<string, Set<WatchRecord<Owner>>>();
  #count = 0;

  get count(): number {
    return this.#count;
  }

  add(watch: WatchRecord<Owner>): void {
    this.#count += 1;
    if (watch.path.startsWith('@')) {
      const watches = this.#special.get(watch.path);
      if (watches === undefined) this.#special.set(watch.path, new Set([watch]));
      else watches.add(watch);
      return;
    }
    let directory = this.#root;
    for (const name of components(watch.path)) {
      let next = directory.children.get(name);
      if (next === undefined) {
        next = new WatchDirectory();
        directory.children.set(name, next);
      }
      directory = next;
    }
    directory.watches.add(watch);
  }

  delete(watch: WatchRecord<Owner>): void {
    this.#count -= 1;
    if (watch.path.startsWith('@')) {
      const watches = this.#special.get(watch.path);
      watches?.delete(watch);
      if (watches?.size === 0) this.#special.delete(watch.path);
      return;
    }
    const names = components(watch.path);
    const trail = [this.#root];
    for (const name of names) trail.push(trail.at(-1)!.children.get(name)!);
    trail.at(-1)!.watches.delete(watch);
    for (let depth = names.length; depth > 0; depth--) {
      const directory = trail[depth]!;
      if (directory.watches.size > 0 || directory.children.size > 0) return;
      trail[depth - 1]!.children.delete(names[depth - 1]!);
    }
  }

  /** Watches that a change of `path` concerns: those on it and, unless `exact`, those above. In no order. */
  match(path: string, exact: boolean): WatchRecord<Owner>[] {
    if (this.#count === 0) return [];
    if (path.startsWith('@')) return [...(this.#special.get(path) ?? [])];
    const found: WatchRecord<Owner>[] = [];
    let directory: WatchDirectory<Owner> | undefined = this.#root;
    let start = 1;
    for (;;) {
      const isLast: boolean = start >= path.length;
      if (isLast || !exact) {
        for (const watch of directory.watches) found.push(watch);
      }
      if (isLast) return found;
      const slash = path.indexOf('/', start);
      const end: number = slash < 0 ? path.length : slash;
      directory = directory.children.get(path.slice(start, end));
      if (directory === undefined) return found;
      start = end + 1;
    }
  }
}

function components(path: string): string[] {
  return path === '/' ? [] : path.slice(1).split('/');
}
