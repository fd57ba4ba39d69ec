import { XENSTORE_REL_PATH_MAX, XS_INTRODUCE_DOMAIN, XS_RELEASE_DOMAIN } from '@virtlab/abi/xs-wire';
import type { DomainTable } from './domain-table.ts';
import type { XenstoreErrorCode } from './errors.ts';
import type { LiveTree } from './live-tree.ts';
import { canonicalPath, isNodePath, parentPath } from './path.ts';
import {
  type NodePermissions,
  XS_PERM_NONE,
  XS_PERM_OWNER,
  XS_PERM_READ,
  XS_PERM_WRITE,
  permittedMask,
  withoutDomain,
} from './permissions.ts';
import type { XenstoreProfile, XenstoreQuotas } from './profile.ts';
import { type StoreConnection, type StoreWatch, watchKey } from './store-connection.ts';
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
  readonly #quotas: XenstoreQuotas;
  #sequence = 0;

  constructor(tree: LiveTree, domains: DomainTable, profile: XenstoreProfile, quotas: XenstoreQuotas) {
    this.#tree = tree;
    this.#domains = domains;
    this.#profile = profile;
    this.#quotas = quotas;
  }

  get count(): number {
    return this.#index.count;
  }

  /** Registers. The caller owes the connection the event `firstEventPath(watch)`, after its reply. */
  add(connection: StoreConnection, path: string, token: string): StoreWatch | XenstoreErrorCode {
    const { domain } = connection;
    const isRelative = !path.startsWith('/') && !path.startsWith('@');
    const canonical = canonicalPath(domain.home, path);
    const isValid = canonical.startsWith('@')
      ? canonical.length <= XENSTORE_REL_PATH_MAX
      : isNodePath(canonical, this.#quotas.pathSize);
    if (!isValid) return 'EINVAL';
    const key = watchKey(canonical, token);
    if (connection.watches.has(key)) return 'EEXIST';
    const size = canonical.length + token.length;
    if (!connection.privileged) {
      if (domain.watchCount > this.#quotas.watches) return this.#profile.watchQuotaError;
      if (domain.memorySize + size >= this.#quotas.memorySize) return 'ENOMEM';
    }
    this.#sequence += 1;
    const hiddenSize = isRelative ? domain.home.length + 1 : 0;
    const watch = { owner: connection, path: canonical, token, hiddenSize, sequence: this.#sequence };
    connection.watches.set(key, watch);
    domain.watchCount += 1;
    domain.memorySize += size;
    this.#index.add(watch);
    return watch;
  }

  remove(connection: StoreConnection, path: string, token: string): XenstoreErrorCode | undefined {
    const watch = connection.watches.get(watchKey(canonicalPath(connection.domain.home, path), token));
    if (watch === undefined) return 'ENOENT';
    this.#drop(watch);
    return undefined;
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
    let lastOwner: StoreConnection | undefined;
    let isPermitted = false;
    for (const watch of this.#matchInOrder(path, exact)) {
      if (watch.owner !== lastOwner) {
        lastOwner = watch.owner;
        isPermitted = this.#mayHear(watch.owner, path, node, old);
      }
      if (isPermitted) watch.owner.onEvent(path.slice(watch.hiddenSize), watch.token, cause);
    }
  }

  /** `@introduceDomain` and `@releaseDomain`. */
  fireSpecial(name: string): void {
    const permissions = this.#special.get(name);
    if (permissions === undefined) return;
    for (const watch of this.#matchInOrder(name, true)) {
      if ((this.#specialMask(watch.owner, permissions) & XS_PERM_READ) !== 0) {
        watch.owner.onEvent(name, watch.token, undefined);
      }
    }
  }

  setSpecialPermissions(
    connection: StoreConnection,
    name: string,
    permissions: NodePermissions,
  ): XenstoreErrorCode | undefined {
    const old = this.#special.get(name);
    if (old === undefined) return 'EINVAL';
    const needed = XS_PERM_WRITE | XS_PERM_OWNER;
    if ((this.#specialMask(connection, old) & needed) !== needed) return 'EACCES';
    this.#special.set(name, permissions);
    return undefined;
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

  /** By connection in the order of opening, within one in the order of registration. */
  #matchInOrder(path: string, exact: boolean): StoreWatch[] {
    const watches = this.#index.match(path, exact);
    if (watches.length < 2) return watches;
    return watches.sort((a, b) => a.owner.sequence - b.owner.sequence || a.sequence - b.sequence);
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

/** The event that every new watch gets at once: the path as it was registered. */
export function firstEventPath(watch: StoreWatch): string {
  return watch.path.slice(watch.hiddenSize);
}
