import { XENSTORE_REL_PATH_MAX, XS_INTRODUCE_DOMAIN, XS_RELEASE_DOMAIN } from '@virtlab/abi/xs-wire';
import type { DomainTable } from './domain-table.ts';
import type { XenstoreErrorCode } from './errors.ts';
import type { LiveTree } from './live-tree.ts';
import { isAcceptablePath } from './path-check.ts';
import { canonicalPath, levelsBelow, parentPath } from './path.ts';
import {
  type NodePermissions,
  XS_PERM_NONE,
  XS_PERM_OWNER,
  XS_PERM_READ,
  XS_PERM_WRITE,
  permittedMask,
  withoutDomain,
} from './permissions.ts';
import type { XenstoreProfile } from './profile.ts';
import type { QuotaGate } from './quota-gate.ts';
import { exceedsMemory, exceedsQuota } from './quota-rules.ts';
import { type StoreConnection, type StoreWatch, watchKey } from './store-connection.ts';
import type { StoreObserver } from './store-observer.ts';
import type { TreeNode } from './tree-node.ts';
import { WatchIndex } from './watch-index.ts';

/** Registrations, and who hears of a change (xenstore.txt, "Watches"; who may hear: C daemon, `watch_permitted`). */
export class WatchTable {
  readonly #index = new WatchIndex<StoreConnection>();
  readonly #special = new Map<string, NodePermissions>([
    [XS_INTRODUCE_DOMAIN, [{ domid: 0, mask: XS_PERM_NONE }]],
    [XS_RELEASE_DOMAIN, [{ domid: 0, mask: XS_PERM_NONE }]],
  ]);
  readonly #tree: LiveTree;
  readonly #domains: DomainTable;
  readonly #profile: XenstoreProfile;
  readonly #gate: QuotaGate;
  readonly #observer: StoreObserver;
  #sequence = 0;

  constructor(
    tree: LiveTree,
    domains: DomainTable,
    profile: XenstoreProfile,
    gate: QuotaGate,
    observer: StoreObserver,
  ) {
    this.#tree = tree;
    this.#domains = domains;
    this.#profile = profile;
    this.#gate = gate;
    this.#observer = observer;
  }

  get count(): number {
    return this.#index.count;
  }

  /** Registers. The caller owes the connection the event `firstEventPath(watch)`, after its reply. */
  add(
    connection: StoreConnection,
    path: string,
    token: string,
    depth: number = -1,
  ): StoreWatch | XenstoreErrorCode {
    const { domain } = connection;
    const isRelative = !path.startsWith('/') && !path.startsWith('@');
    const canonical = canonicalPath(domain.home, path);
    if (!this.#isWatchable(connection, canonical)) return 'EINVAL';
    const key = watchKey(canonical, token);
    if (connection.watches.has(key)) return 'EEXIST';
    const size = canonical.length + token.length;
    const { domid, privileged } = connection;
    const { quotas, watchCount } = domain;
    const tooMany = !privileged && exceedsQuota(this.#profile, quotas, 'watches', watchCount + 1);
    if (this.#gate.refuses('watches', domid, canonical, tooMany, watchCount, quotas.watches))
      return this.#profile.watchQuotaError;
    const needed = domain.memorySize + size;
    const tooLarge = !privileged && exceedsMemory(quotas, needed);
    if (this.#gate.refuses('memory', domid, canonical, tooLarge, needed, quotas.memorySize)) return 'ENOMEM';
    this.#sequence += 1;
    const hiddenSize = isRelative ? domain.home.length + 1 : 0;
    const sequence = this.#sequence;
    const watch = { owner: connection, path: canonical, token, hiddenSize, depth, sequence };
    connection.watches.set(key, watch);
    domain.watchCount += 1;
    domain.memorySize += size;
    this.#index.add(watch);
    return watch;
  }

  remove(connection: StoreConnection, path: string, token: string): XenstoreErrorCode | undefined {
    const canonical = canonicalPath(connection.domain.home, path);
    if (this.#profile.specialNames === 'nodes' && !this.#isWatchable(connection, canonical)) return 'EINVAL';
    const watch = connection.watches.get(watchKey(canonical, token));
    if (watch === undefined) return 'ENOENT';
    this.#drop(watch);
    return undefined;
  }

  /** Special names are checked as paths are only where they are names of nodes. */
  #isWatchable(connection: StoreConnection, path: string): boolean {
    if (path.startsWith('@') && this.#profile.specialNames === 'permissions')
      return path.length <= XENSTORE_REL_PATH_MAX;
    return isAcceptablePath(this.#profile, this.#gate, connection, path);
  }

  removeAll(connection: StoreConnection): void {
    for (const watch of connection.watches.values()) this.#drop(watch);
  }

  /**
   * Tells everybody concerned of a change of `path`. `node` is the node as it is now, or as it was when it has just
   * been removed; `old` is given when its permissions may have changed, for those who could read it before.
   */
  fire(
    path: string,
    exact: boolean,
    node: TreeNode | undefined,
    old: TreeNode | undefined,
    cause: unknown,
  ): void {
    const watches = this.#index.match(path, exact);
    const reached = exact ? watches : watches.filter((watch) => reaches(watch, path));
    this.#deliver(reached, path, node, old, cause);
  }

  #deliver(
    watches: StoreWatch[],
    path: string,
    node: TreeNode | undefined,
    old: TreeNode | undefined,
    cause: unknown,
  ): void {
    let lastOwner: StoreConnection | undefined;
    let isPermitted = false;
    let eventCount = 0;
    for (const watch of inOrder(watches)) {
      if (watch.owner !== lastOwner) {
        lastOwner = watch.owner;
        isPermitted = this.#mayHear(watch.owner, path, node, old);
      }
      if (!isPermitted) continue;
      eventCount += 1;
      watch.owner.onEvent(path.slice(watch.hiddenSize), watch.token, cause);
    }
    if (eventCount > 0) this.#observer.fanOut(path, eventCount);
  }

  /**
   * `@introduceDomain` and `@releaseDomain`, because of `domid`. Where these are nodes, watches without depth hear the
   * plain name, those on `<name>/<domid>` and those with a depth hear that; a domain's shutdown tells these first.
   */
  fireSpecial(
    name: string,
    domid: number,
    order: readonly ('plain' | 'domain')[] = ['plain', 'domain'],
  ): void {
    if (this.#profile.specialNames === 'permissions') return this.#fireByPermissions(name);
    const node = this.#tree.get(name);
    if (node === undefined) return;
    for (const kind of order) {
      const own = this.#index.match(name, true);
      if (kind === 'plain') {
        this.#deliver(
          own.filter(({ depth = -1 }) => depth < 0),
          name,
          node,
          undefined,
          undefined,
        );
      } else {
        const path = `${name}/${domid}`;
        const deep = own.filter(({ depth = -1 }) => depth > 0);
        this.#deliver([...this.#index.match(path, true), ...deep], path, node, undefined, undefined);
      }
    }
  }

  #fireByPermissions(name: string): void {
    const permissions = this.#special.get(name);
    if (permissions === undefined) return;
    for (const watch of inOrder(this.#index.match(name, true))) {
      if ((this.#specialMask(watch.owner, permissions) & XS_PERM_READ) !== 0)
        watch.owner.onEvent(name, watch.token, undefined);
    }
  }

  setSpecialPermissions(
    connection: StoreConnection,
    name: string,
    permissions: NodePermissions,
  ): XenstoreErrorCode | undefined {
    const old = this.#special.get(name);
    if (old === undefined) return this.#profile.badString.reading; // whatever errno holds: the call does not set it
    const needed = XS_PERM_WRITE | XS_PERM_OWNER;
    if ((this.#specialMask(connection, old) & needed) !== needed) return 'EACCES';
    this.#special.set(name, permissions);
    return undefined;
  }

  /** Of a special name that is no node. */
  specialPermissions(name: string): NodePermissions | undefined {
    return this.#profile.specialNames === 'permissions' ? this.#special.get(name) : undefined;
  }

  forgetDomain(domid: number): void {
    for (const [name, permissions] of this.#special)
      this.#special.set(name, withoutDomain(permissions, domid));
  }

  #drop(watch: StoreWatch): void {
    const { owner, path, token } = watch;
    owner.watches.delete(watchKey(path, token));
    owner.domain.watchCount -= 1;
    owner.domain.memorySize -= path.length + token.length;
    this.#index.delete(watch);
  }

  #mayHear(
    listener: StoreConnection,
    path: string,
    node: TreeNode | undefined,
    old: TreeNode | undefined,
  ): boolean {
    if (old !== undefined && this.#canRead(listener, old)) return true;
    if (node === undefined) return false;
    if (this.#canRead(listener, node)) return true;
    const parent = this.#tree.get(parentPath(path));
    return parent !== undefined && this.#canRead(listener, parent);
  }

  #canRead(listener: StoreConnection, node: TreeNode): boolean {
    if (listener.privileged) return true;
    const isCurrent = (domid: number): boolean => this.#domains.isCurrent(domid, node.generation);
    return (permittedMask(node.permissions, listener, isCurrent) & XS_PERM_READ) !== 0;
  }

  #specialMask(connection: StoreConnection, permissions: NodePermissions): number {
    return permittedMask(permissions, connection, (domid) => this.#domains.find(domid) !== undefined);
  }
}

/** Sorts, in place: by connection in the order of opening, within one in the order of registration. */
function inOrder(watches: StoreWatch[]): StoreWatch[] {
  if (watches.length < 2) return watches;
  return watches.sort((a, b) => a.owner.sequence - b.owner.sequence || a.sequence - b.sequence);
}

/** Whether a change of `path`, on the watched path or below, is within the watch's depth (C HEAD, `is_child`). */
function reaches({ path: watched, depth = -1 }: StoreWatch, path: string): boolean {
  return depth < 0 || levelsBelow(path, watched) <= depth;
}

/** The event that every new watch gets at once: the path as it was registered. */
export function firstEventPath(watch: StoreWatch): string {
  return watch.path.slice(watch.hiddenSize);
}
