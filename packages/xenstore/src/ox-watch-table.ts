import type { XenstoreErrorCode } from './errors.ts';
import { OxEventPipes } from './ox-event-pipe.ts';
import type { OxLimits } from './ox-store.ts';
import { oxComponents } from './ox-path.ts';
import { oxPermits } from './ox-permissions.ts';
import type { OxChange } from './ox-view.ts';
import { canonicalPath } from './path.ts';
import { type NodePermissions, XS_PERM_READ } from './permissions.ts';
import { type SnapshotNode, type SnapshotPath, nodeAt, snapshotPathText } from './snapshot-node.ts';
import { type StoreConnection, type StoreWatch, watchKey } from './store-connection.ts';
import type { StoreObserver } from './store-observer.ts';

/** Watches of one path, the newest first, and of paths below. */
class WatchPlace {
  watches: readonly StoreWatch[] = [];
  readonly below = new Map<string, WatchPlace>();
}

/** The trees in which a change is to be seen: who may read the node or its parent in one of them, hears of it. */
interface WatchedTrees {
  readonly oldRoot: SnapshotNode | undefined;
  readonly root: SnapshotNode;
}

/**
 * Registrations, and who hears of what, in which order (connections.ml, connection.ml). A change is told to the watches
 * on the way from `/` to the node, on one path to the newest first; a removal then to those below, by name, each with
 * its own path. Nothing is merged.
 */
export class OxWatchTable {
  readonly #root = new WatchPlace();
  readonly #special = new Map<string, readonly StoreWatch[]>();
  readonly #pipes: OxEventPipes;
  readonly #limits: OxLimits;
  readonly #observer: StoreObserver;
  readonly #tree: () => SnapshotNode;
  /** Without domain 0 nobody is told of domains that come and go. */
  isMuted = false;
  #count = 0;
  #sequence = 0;

  /** `tree` yields the tree as it is now. */
  constructor(limits: OxLimits, observer: StoreObserver, tree: () => SnapshotNode) {
    this.#limits = limits;
    this.#observer = observer;
    this.#tree = tree;
    this.#pipes = new OxEventPipes(() => limits.quotas.watchEvents);
  }

  get count(): number {
    return this.#count;
  }

  /** Any length of path will do. The caller owes the connection the first event. */
  add(connection: StoreConnection, path: string, token: string): StoreWatch | XenstoreErrorCode {
    const { domain, domid, watches } = connection;
    if (path === '') return 'EINVAL';
    const canonical = canonicalPath(domain.home, path);
    const components = oxComponents(canonical);
    if (components === undefined) return 'EINVAL';
    const max = this.#limits.quotas.watches;
    const isLimited = max > 0 && !connection.privileged && domain.target !== 0;
    const tooMany = isLimited && watches.size > max;
    if (this.#limits.gate.refuses('watches', domid, canonical, tooMany, watches.size, max)) return 'EQUOTA';
    const key = watchKey(canonical, token);
    if (watches.has(key)) return 'EEXIST';
    this.#sequence += 1;
    const hiddenSize = path === canonical ? 0 : domain.home.length + 1;
    const watch = {
      owner: connection,
      path: canonical,
      token,
      hiddenSize,
      sequence: this.#sequence,
      depth: -1,
    };
    watches.set(key, watch);
    domain.watchCount += 1;
    this.#count += 1;
    if (canonical.startsWith('@')) {
      this.#special.set(canonical, [watch, ...(this.#special.get(canonical) ?? [])]);
    } else {
      const place = this.#place(components);
      place.watches = [watch, ...place.watches];
    }
    return watch;
  }

  remove(connection: StoreConnection, path: string, token: string): XenstoreErrorCode | undefined {
    if (path === '') return 'EINVAL';
    const watch = connection.watches.get(watchKey(canonicalPath(connection.domain.home, path), token));
    if (watch === undefined) return 'ENOENT';
    this.#drop(watch);
    return undefined;
  }

  removeAll(connection: StoreConnection): void {
    for (const watch of connection.watches.values()) this.#drop(watch);
    this.#pipes.dropSource(connection);
  }

  /** Special names are nodes here: what they allowed went with their permissions. */
  forgetDomain(_domid: number): void {}

  /** The event that every new watch gets at once, whether or not the path may be read. */
  fireFirst(watch: StoreWatch, cause: unknown): void {
    this.#pipes.push(watch.owner, watch, watch.path.slice(watch.hiddenSize), cause);
  }

  /** Tells of the changes of one request or transaction, in order, each as often as it was made (`process_watch`). */
  fire(
    source: StoreConnection | undefined,
    changes: readonly OxChange[],
    oldRoot: SnapshotNode,
    root: SnapshotNode,
    cause: unknown,
  ): void {
    if (this.#count === 0) return;
    for (const { kind, path } of changes) {
      const trees =
        kind === 'rm'
          ? { oldRoot: undefined, root: oldRoot }
          : { oldRoot: kind === 'setPermissions' ? oldRoot : undefined, root };
      this.#fireOne(source, path, kind === 'rm', trees, cause);
    }
  }

  /** `@introduceDomain` and `@releaseDomain`: heard by those who may read `/` or the node of that name. */
  fireSpecial(name: string): void {
    if (this.isMuted) return;
    const trees = { oldRoot: undefined, root: this.#tree() };
    for (const watch of this.#special.get(name) ?? []) {
      if (mayHear(watch.owner, [name], trees)) this.#pipes.push(undefined, watch, name, undefined);
    }
  }

  #fireOne(
    source: StoreConnection | undefined,
    path: SnapshotPath,
    withBelow: boolean,
    trees: WatchedTrees,
    cause: unknown,
  ): void {
    const text = snapshotPathText(path);
    let place: WatchPlace | undefined = this.#root;
    let eventCount = 0;
    for (let depth = 0; place !== undefined; depth++) {
      for (const watch of place.watches) {
        if (!mayHear(watch.owner, path, trees)) continue;
        eventCount += 1;
        this.#pipes.push(source, watch, text.slice(watch.hiddenSize), cause);
      }
      if (depth === path.length) break;
      place = place.below.get(path[depth]!);
    }
    if (withBelow && place !== undefined) {
      eventCount += this.#fireBelow(source, place, path, trees, cause);
    }
    if (eventCount > 0) this.#observer.fanOut(text, eventCount);
  }

  #fireBelow(
    source: StoreConnection | undefined,
    place: WatchPlace,
    path: SnapshotPath,
    trees: WatchedTrees,
    cause: unknown,
  ): number {
    let eventCount = 0;
    const inOrder = [...place.below].sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [name, child] of inOrder) {
      const childPath = [...path, name];
      for (const watch of child.watches) {
        if (!mayHear(watch.owner, childPath, trees)) continue;
        eventCount += 1;
        this.#pipes.push(source, watch, watch.path.slice(watch.hiddenSize), cause);
      }
      eventCount += this.#fireBelow(source, child, childPath, trees, cause);
    }
    return eventCount;
  }

  #place(path: SnapshotPath): WatchPlace {
    let place = this.#root;
    for (const name of path) {
      let next = place.below.get(name);
      if (next === undefined) {
        next = new WatchPlace();
        place.below.set(name, next);
      }
      place = next;
    }
    return place;
  }

  #drop(watch: StoreWatch): void {
    const { owner, path, token } = watch;
    owner.watches.delete(watchKey(path, token));
    owner.domain.watchCount -= 1;
    this.#count -= 1;
    this.#pipes.dropWatch(watch);
    const isOther = (other: StoreWatch): boolean => other !== watch;
    if (path.startsWith('@')) {
      const rest = this.#special.get(path)!.filter(isOther);
      if (rest.length === 0) this.#special.delete(path);
      else this.#special.set(path, rest);
      return;
    }
    const names = oxComponents(path)!;
    const trail = [this.#root];
    for (const name of names) trail.push(trail.at(-1)!.below.get(name)!);
    const last = trail.at(-1)!;
    last.watches = last.watches.filter(isOther);
    for (let depth = names.length; depth > 0; depth--) {
      if (trail[depth]!.watches.length > 0 || trail[depth]!.below.size > 0) return;
      trail[depth - 1]!.below.delete(names[depth - 1]!);
    }
  }
}

/** Nobody hears of `/` itself, and nobody of what has no parent in the trees that count. */
function mayHear(listener: StoreConnection, path: SnapshotPath, { oldRoot, root }: WatchedTrees): boolean {
  const inTree = (tree: SnapshotNode | undefined): boolean => {
    const parent = tree === undefined ? undefined : nodeAt(tree, path.slice(0, -1));
    if (parent === undefined) return false;
    const child = parent.children.get(path.at(-1)!);
    const canRead = (permissions: NodePermissions): boolean => oxPermits(permissions, listener, XS_PERM_READ);
    return canRead(parent.permissions) || (child !== undefined && canRead(child.permissions));
  };
  return path.length > 0 && (inTree(oldRoot) || inTree(root));
}
