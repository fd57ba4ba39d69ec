import type { ByteString } from './byte-string.ts';
import type { DomainTable } from './domain-table.ts';
import type { XenstoreErrorCode } from './errors.ts';
import type { LiveTree } from './live-tree.ts';
import { baseName, childPath, isNodePath, parentPath } from './path.ts';
import {
  type NodePermissions,
  XS_PERM_IGNORE,
  XS_PERM_OWNER,
  XS_PERM_WRITE,
  parsePermissions,
  permittedMask,
  retirePermissions,
  withOwner,
} from './permissions.ts';
import { isUnprivilegedDomain } from './domain-table.ts';
import type { XenstoreProfile, XenstoreQuotas } from './profile.ts';
import type { StoreConnection } from './store-connection.ts';
import type { Transaction } from './transaction.ts';
import { ChildList, type TreeNode, nodeSize, treeNode } from './tree-node.ts';
import type { WatchTable } from './watch-table.ts';

/** Who does something, in which transaction if any; `cause` comes back with the events. */
export interface NodeContext {
  readonly connection: StoreConnection;
  readonly transaction: Transaction | undefined;
  readonly cause?: unknown;
}

/** What the operations work on; owned by the store. */
export interface NodeOperationsParts {
  readonly profile: XenstoreProfile;
  readonly quotas: XenstoreQuotas;
  readonly tree: LiveTree;
  readonly domains: DomainTable;
  readonly watches: WatchTable;
  /** Counts every change in the store. */
  readonly clock: { generation: number };
  readonly domainExists: (domid: number) => boolean;
  readonly forceConflict: () => boolean;
}

/** A node version that is to be written; `adds` or `removes` one child's name. */
interface Draft {
  readonly value: ByteString;
  readonly permissions: NodePermissions;
  readonly children: ChildList;
  readonly adds?: string;
  readonly removes?: string;
}

/**
 * The operations on nodes, directly or in a transaction. Which nodes an operation reads, and in which order, is part
 * of its behaviour: a transaction is judged by the nodes it read, and fires its events in the order of the first
 * access.
 */
export class NodeOperations {
  readonly #parts: NodeOperationsParts;

  constructor(parts: NodeOperationsParts) {
    this.#parts = parts;
  }

  find(context: NodeContext, path: string, mask: number): TreeNode | XenstoreErrorCode {
    if (!isNodePath(path, this.#parts.quotas.pathSize)) return 'EINVAL';
    const node = this.#read(context, path);
    if (node === 'ENOSPC') return node;
    if (typeof node !== 'string' && (this.#mask(context, node) & mask) === mask) return node;
    return this.#hide(context, path, typeof node === 'string' ? node : 'EACCES', mask);
  }

  write(context: NodeContext, path: string, value: ByteString): XenstoreErrorCode | undefined {
    const node = this.find(context, path, XS_PERM_WRITE);
    if (typeof node === 'string' && node !== 'ENOENT') return node;
    const failure =
      node === 'ENOENT'
        ? this.#create(context, path, value)
        : this.#put(context, path, { ...this.#draft(node), value }, true);
    if (failure === undefined) this.#fire(context, path, false);
    return failure;
  }

  mkdir(context: NodeContext, path: string): XenstoreErrorCode | undefined {
    const node = this.find(context, path, XS_PERM_WRITE);
    if (typeof node !== 'string') return undefined;
    if (node !== 'ENOENT') return node;
    const failure = this.#create(context, path, '');
    if (failure === undefined) this.#fire(context, path, false);
    return failure;
  }

  rm(context: NodeContext, path: string): XenstoreErrorCode | undefined {
    const node = this.find(context, path, XS_PERM_WRITE);
    if (typeof node === 'string') {
      if (node !== 'ENOENT') return node;
      const parent = this.#read(context, parentPath(path));
      return typeof parent === 'string' ? parent : undefined;
    }
    if (path === '/') return 'EINVAL';
    return this.#removeTree(context, path);
  }

  setPermissions(
    context: NodeContext,
    path: string,
    entries: readonly string[],
  ): XenstoreErrorCode | undefined {
    const { connection, transaction } = context;
    if (entries.length === 0) return 'EINVAL';
    if (!connection.privileged && entries.length > this.#parts.quotas.permissions) return 'ENOSPC';
    const parsed = parsePermissions(entries);
    if (parsed === undefined) return 'EINVAL';
    const permissions = this.#resolveDomains(parsed);
    if ((permissions[0].mask & XS_PERM_IGNORE) !== 0) return 'ENOENT';
    if (path.startsWith('@')) return this.#parts.watches.setSpecialPermissions(connection, path, permissions);
    const node = this.find(context, path, XS_PERM_WRITE | XS_PERM_OWNER);
    if (typeof node === 'string') return node;
    const owner = node.permissions[0].domid;
    if (!connection.privileged && permissions[0].domid !== owner) return 'EPERM';
    const failure = this.#put(
      context,
      path,
      { value: node.value, children: node.children, permissions },
      true,
    );
    if (failure !== undefined) return failure;
    transaction?.countNode(owner, -1);
    transaction?.countNode(permissions[0].domid, 1);
    this.#fire(context, path, false, undefined, node);
    return undefined;
  }

  /** Everything or nothing; afterwards the transaction must not be used any more. */
  commit(
    connection: StoreConnection,
    transaction: Transaction,
    cause: unknown,
  ): XenstoreErrorCode | undefined {
    const { tree, watches, forceConflict } = this.#parts;
    if (transaction.failed) return 'ENOMEM';
    const failure = this.#checkNodeCounts(connection, transaction);
    if (failure !== undefined) return failure;
    if (transaction.conflict((path) => tree.get(path)) !== undefined || forceConflict()) return 'EAGAIN';
    for (const { path, node, original, modified, event } of transaction.accessed()) {
      if (!modified) continue;
      if (node === undefined) tree.delete(path);
      else tree.set(path, { ...node, generation: this.#tick() });
      if (event !== 'none') watches.fire(path, event === 'exact', tree.get(path), original, cause);
    }
    return undefined;
  }

  #checkNodeCounts(connection: StoreConnection, transaction: Transaction): XenstoreErrorCode | undefined {
    const { domains, domainExists, quotas } = this.#parts;
    const isLimited = transaction.nodeCreated && !connection.privileged;
    for (const [domid, delta] of transaction.nodeCountDeltas()) {
      const count = (domains.find(domid)?.nodeCount ?? 0) + delta;
      if (isLimited && isUnprivilegedDomain(domid) && count >= quotas.nodes) return 'ENOSPC';
      if (domains.find(domid) === undefined && !domainExists(domid)) return 'ENOMEM';
    }
    return undefined;
  }

  /** Removes a node whose owner died, on nobody's behalf. */
  removeOrphan(path: string): void {
    this.#removeTree(undefined, path);
  }

  /** The node as the caller sees it; reading in a transaction captures it. */
  #read(context: NodeContext | undefined, path: string): TreeNode | 'ENOENT' | 'ENOSPC' {
    const { tree, quotas } = this.#parts;
    const transaction = context?.transaction;
    if (context === undefined || transaction === undefined) return tree.get(path) ?? 'ENOENT';
    let accessed = transaction.find(path);
    if (accessed === undefined) {
      if (!context.connection.privileged && transaction.accessedCount >= quotas.transactionNodes) {
        transaction.failed = true;
        return 'ENOSPC';
      }
      accessed = transaction.capture(path, tree.get(path));
    }
    return accessed.node ?? 'ENOENT';
  }

  #mask(context: NodeContext, node: TreeNode): number {
    return permittedMask(node.permissions, context.connection, (domid) =>
      this.#parts.domains.isCurrent(domid, node.generation),
    );
  }

  /** The true error only for those who may do the same to the nearest existing ancestor; EACCES for others. */
  #hide(context: NodeContext, path: string, code: XenstoreErrorCode, mask: number): XenstoreErrorCode {
    if (context.connection.privileged && context.transaction === undefined) return code;
    for (let ancestor = parentPath(path); ; ancestor = parentPath(ancestor)) {
      const node = this.#read(context, ancestor);
      if (node === 'ENOSPC') return node;
      if (typeof node !== 'string') return (this.#mask(context, node) & mask) === 0 ? 'EACCES' : code;
      if (ancestor === '/') return 'EACCES';
    }
  }

  /** Creates the node and its missing parents, bottom up as the C daemon does, or nothing. */
  #create(context: NodeContext, path: string, value: ByteString): XenstoreErrorCode | undefined {
    const { connection, transaction } = context;
    const missing: string[] = [];
    let parent: TreeNode | undefined;
    let at = path;
    while (parent === undefined) {
      missing.push(at);
      at = parentPath(at);
      const node = this.#read(context, at);
      if (typeof node !== 'string') parent = node;
      else if (node !== 'ENOENT' || at === '/') return node;
    }
    const draft = this.#draft(parent);
    const permissions = connection.privileged
      ? draft.permissions
      : withOwner(draft.permissions, connection.domid);
    if (transaction !== undefined) transaction.nodeCreated = true;
    const written: string[] = [];
    let adds: string | undefined;
    let failure: XenstoreErrorCode | undefined;
    for (const name of missing) {
      const isFull = !connection.privileged && connection.domain.nodeCount >= this.#parts.quotas.nodes;
      const child = { value: name === path ? value : '', permissions, children: ChildList.EMPTY };
      failure = isFull
        ? 'ENOSPC'
        : this.#put(context, name, adds === undefined ? child : { ...child, adds }, true);
      if (failure !== undefined) break;
      transaction?.countNode(permissions[0].domid, 1);
      written.push(name);
      adds = baseName(name);
    }
    if (failure === undefined && adds !== undefined)
      failure = this.#put(context, at, { ...draft, adds }, true);
    if (failure !== undefined) this.#undo(transaction, written);
    return failure;
  }

  /** Takes back the new nodes; a transaction that had already written some is doomed. */
  #undo(transaction: Transaction | undefined, written: readonly string[]): void {
    for (const path of written) {
      if (transaction === undefined) {
        this.#parts.tree.delete(path);
      } else {
        transaction.put(path, undefined);
        transaction.failed = true;
      }
    }
  }

  /** Post-order: nodes below fire to watches exactly on them, the top one to all above (C daemon, `delnode_sub`). */
  #removeTree(context: NodeContext | undefined, path: string): XenstoreErrorCode | undefined {
    const parentName = parentPath(path);
    const parent = this.#read(context, parentName);
    if (typeof parent === 'string') return parent === 'ENOENT' ? 'EINVAL' : parent;
    if (!this.#removeBelow(context, path, path)) return 'EIO';
    // A transaction may know the parent from before the child was added; it will not commit (`delete_child`).
    if (!parent.children.has(baseName(path))) return 'EIO';
    return this.#put(context, parentName, { ...this.#draft(parent), removes: baseName(path) }, false);
  }

  #removeBelow(context: NodeContext | undefined, path: string, top: string): boolean {
    const { tree } = this.#parts;
    const transaction = context?.transaction;
    const node = this.#read(context, path);
    if (typeof node === 'string') return false;
    for (const name of node.children.names()) {
      if (!this.#removeBelow(context, childPath(path, name), top)) return false;
    }
    this.#tick();
    if (transaction === undefined) {
      tree.delete(path);
    } else {
      transaction.put(path, undefined);
      transaction.countNode(node.permissions[0].domid, -1);
    }
    this.#fire(context, path, path !== top, node);
    return true;
  }

  #draft(node: TreeNode): Draft {
    const isCurrent = (domid: number): boolean => this.#parts.domains.isCurrent(domid, node.generation);
    return {
      value: node.value,
      children: node.children,
      permissions: retirePermissions(node.permissions, isCurrent),
    };
  }

  /** Writes a version; `limited` applies the quotas. A failure inside a transaction dooms it. */
  #put(
    context: NodeContext | undefined,
    path: string,
    draft: Draft,
    limited: boolean,
  ): XenstoreErrorCode | undefined {
    const { profile, tree } = this.#parts;
    const transaction = context?.transaction;
    const { value, permissions, children, adds, removes } = draft;
    const failure = limited ? this.#checkLimits(context, path, draft) : undefined;
    if (failure !== undefined) {
      if (transaction !== undefined) transaction.failed = true;
      return failure;
    }
    const names =
      adds !== undefined ? children.with(adds) : removes !== undefined ? children.without(removes) : children;
    const node = treeNode(profile, value, permissions, names, this.#tick());
    if (transaction === undefined) tree.set(path, node);
    else transaction.put(path, node);
    return undefined;
  }

  #checkLimits(context: NodeContext | undefined, path: string, draft: Draft): XenstoreErrorCode | undefined {
    const { profile, quotas, tree } = this.#parts;
    const { value, permissions, children, adds } = draft;
    const childrenSize = children.size + (adds === undefined ? 0 : adds.length + 1);
    const size = nodeSize(profile, value.length, permissions.length, childrenSize);
    const connection = context?.connection;
    const transaction = context?.transaction;
    if (connection?.privileged === false && size >= quotas.nodeSize) return 'ENOSPC';
    if (transaction === undefined || connection === undefined) {
      return tree.exceedsMemory(path, permissions[0].domid, size, quotas.memorySize) ? 'EIO' : undefined;
    }
    return !connection.privileged && connection.domain.memorySize + size >= quotas.memorySize
      ? 'EIO'
      : undefined;
  }

  /** Marks entries of domains that do not exist; takes note of the others, so that they are told from later ones. */
  #resolveDomains(permissions: NodePermissions): NodePermissions {
    const { domains, domainExists } = this.#parts;
    const missing = new Set<number>();
    for (const { domid } of permissions) {
      if (domains.find(domid) !== undefined) continue;
      if (domainExists(domid)) domains.get(domid);
      else missing.add(domid);
    }
    if (missing.size === 0) return permissions;
    const [owner, ...others] = permissions.map((entry) =>
      missing.has(entry.domid) ? { ...entry, mask: entry.mask | XS_PERM_IGNORE } : entry,
    );
    return [owner!, ...others];
  }

  #fire(
    context: NodeContext | undefined,
    path: string,
    exact: boolean,
    removed?: TreeNode,
    old?: TreeNode,
  ): void {
    const { tree, watches } = this.#parts;
    if (context?.transaction !== undefined) context.transaction.queueEvent(path, exact);
    else watches.fire(path, exact, removed ?? tree.get(path), old, context?.cause);
  }

  #tick(): number {
    this.#parts.clock.generation += 1;
    return this.#parts.clock.generation;
  }
}
