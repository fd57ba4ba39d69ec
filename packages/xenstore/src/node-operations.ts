import { DOMID_ANY } from '@virtlab/abi/xen';
import type { ByteString } from './byte-string.ts';
import type { XenstoreErrorCode } from './errors.ts';
import { NodeAccess, type NodeOperationsParts } from './node-access.ts';
import type { NodeContext, NodeEngine } from './node-engine.ts';
import { isAcceptablePath } from './path-check.ts';
import { baseName, childPath, parentPath } from './path.ts';
import {
  type NodePermissions,
  XS_PERM_IGNORE,
  XS_PERM_OWNER,
  XS_PERM_WRITE,
  parsePermissions,
  withOwner,
} from './permissions.ts';
import { exceedsQuota } from './quota-rules.ts';
import type { StoreConnection } from './store-connection.ts';
import type { Transaction } from './transaction.ts';
import { commitTransaction } from './transaction-commit.ts';
import { ChildList, type TreeNode } from './tree-node.ts';

export type { NodeOperationsParts } from './node-access.ts';

/**
 * The operations on nodes as the C daemon does them. Which nodes an operation reads, and in which order, is part of
 * its behaviour: a transaction is judged by the nodes it read, and fires its events in the order of the first access.
 */
export class NodeOperations implements NodeEngine {
  readonly #parts: NodeOperationsParts;
  readonly #access: NodeAccess;

  constructor(parts: NodeOperationsParts) {
    this.#parts = parts;
    this.#access = new NodeAccess(parts);
  }

  find(context: NodeContext, path: string, mask: number): TreeNode | XenstoreErrorCode {
    const { gate, profile } = this.#parts;
    if (!isAcceptablePath(profile, gate, context.connection, path)) return 'EINVAL';
    const node = this.#access.read(context, path);
    if (node === 'ENOSPC') return node;
    if (typeof node !== 'string' && (this.#access.mask(context, node) & mask) === mask) return node;
    return this.#access.hide(context, path, typeof node === 'string' ? node : 'EACCES', mask);
  }

  write(context: NodeContext, path: string, value: ByteString): XenstoreErrorCode | undefined {
    const node = this.#findWritable(context, path);
    if (typeof node === 'string' && node !== 'ENOENT') return node;
    const failure =
      node === 'ENOENT'
        ? this.#create(context, path, value)
        : this.#access.put(context, path, { ...this.#access.draft(node), value }, true);
    if (failure === undefined) this.#access.fire(context, path, false);
    return failure;
  }

  mkdir(context: NodeContext, path: string): XenstoreErrorCode | undefined {
    const node = this.#findWritable(context, path);
    if (typeof node !== 'string') return undefined;
    if (node !== 'ENOENT') return node;
    const failure = this.#create(context, path, '');
    if (failure === undefined) this.#access.fire(context, path, false);
    return failure;
  }

  rm(context: NodeContext, path: string): XenstoreErrorCode | undefined {
    const node = this.#findWritable(context, path);
    if (typeof node === 'string') {
      if (node !== 'ENOENT') return node;
      const parent = this.#access.read(context, parentPath(path));
      return typeof parent === 'string' ? parent : undefined;
    }
    if (path === '/') return 'EINVAL';
    const { transaction } = context;
    const counts = transaction !== undefined && this.#countsAtReply ? transaction.copyOfCounts() : undefined;
    const failure = this.#removeTree(context, path);
    if (failure !== undefined && counts !== undefined) transaction!.restoreCounts(counts);
    return failure;
  }

  setPermissions(
    context: NodeContext,
    path: string,
    entries: readonly string[],
  ): XenstoreErrorCode | undefined {
    const { connection, transaction } = context;
    const { profile, watches } = this.#parts;
    const permissions = this.#parsePermissions(context, path, entries);
    if (typeof permissions === 'string') return permissions;
    if (path.startsWith('@') && profile.specialNames === 'permissions')
      return watches.setSpecialPermissions(connection, path, permissions);
    const node = this.find(context, path, XS_PERM_WRITE | XS_PERM_OWNER);
    if (typeof node === 'string') return node;
    const owner = node.permissions[0].domid;
    const newOwner = permissions[0].domid;
    if (!connection.privileged && newOwner !== owner) return 'EPERM';
    if (!this.#canPayBack(owner)) return 'ENOMEM';
    if (newOwner === DOMID_ANY) return 'ENOMEM'; // its nodes cannot be counted (`domain_nbentry_inc`)
    const draft = { value: node.value, children: node.children, permissions };
    const failure = this.#access.put(context, path, draft, true);
    if (failure !== undefined) return failure;
    // What one request adds and takes back is nothing to a daemon that counts when it is done.
    if (transaction !== undefined && !(this.#countsAtReply && owner === newOwner)) {
      transaction.countNode(owner, -1);
      this.#countOwned(transaction, newOwner);
    }
    this.#access.fire(context, path, false, undefined, node);
    return undefined;
  }

  /** Everything or nothing; afterwards the transaction must not be used any more. */
  commit(
    connection: StoreConnection,
    transaction: Transaction,
    cause: unknown,
  ): XenstoreErrorCode | undefined {
    return commitTransaction(this.#parts, connection, transaction, cause);
  }

  /** Removes a node whose owner died, on nobody's behalf. */
  removeOrphan(path: string): void {
    this.#removeTree(undefined, path);
  }

  /** Accounts change when a request is answered, and not at all if that is an error (C HEAD, `acc_commit`). */
  get #countsAtReply(): boolean {
    return this.#parts.profile.nodeAccounting === 'at-reply';
  }

  #findWritable(context: NodeContext, path: string): TreeNode | XenstoreErrorCode {
    return path.startsWith('@') ? 'EINVAL' : this.find(context, path, XS_PERM_WRITE);
  }

  /** In the order of the C daemon: how many, then how they are spelt, then whether the owner exists. */
  #parsePermissions(
    { connection }: NodeContext,
    path: string,
    entries: readonly string[],
  ): NodePermissions | XenstoreErrorCode {
    const { gate, profile } = this.#parts;
    const { domain, domid, privileged } = connection;
    const count = entries.length;
    if (count === 0) return 'EINVAL';
    const tooMany = !privileged && exceedsQuota(profile, domain.quotas, 'permissions', count);
    if (gate.refuses('permissions', domid, path, tooMany, count, domain.quotas.permissions)) return 'ENOSPC';
    if (!privileged) domain.see('permissions', count);
    const parsed = parsePermissions(entries);
    if (parsed === undefined) return 'EINVAL';
    const permissions = this.#access.resolveDomains(connection, parsed);
    return (permissions[0].mask & XS_PERM_IGNORE) === 0 ? permissions : 'ENOENT';
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
      const node = this.#access.read(context, at);
      if (typeof node !== 'string') parent = node;
      else if (node !== 'ENOENT' || at === '/') return node;
    }
    const draft = this.#access.draft(parent);
    const permissions = connection.privileged
      ? draft.permissions
      : withOwner(draft.permissions, connection.domid);
    if (transaction !== undefined) transaction.nodeCreated = true;
    const countAtStart = connection.domain.nodeCount;
    const written: string[] = [];
    let adds: string | undefined;
    let failure: XenstoreErrorCode | undefined;
    for (const name of missing) {
      const child = { value: name === path ? value : '', permissions, children: ChildList.EMPTY };
      failure = this.#hasRoom(connection, name, countAtStart)
        ? this.#access.put(context, name, adds === undefined ? child : { ...child, adds }, true)
        : 'ENOSPC';
      if (failure !== undefined) break;
      if (transaction !== undefined && !this.#countOwned(transaction, permissions[0].domid)) {
        transaction.put(name, undefined);
        return 'ENOMEM';
      }
      written.push(name);
      adds = baseName(name);
    }
    if (failure === undefined && adds !== undefined)
      failure = this.#access.put(context, at, { ...draft, adds }, true);
    if (failure !== undefined) this.#undo(transaction, written);
    return failure;
  }

  /** One node more for `owner`. False if that died since the transaction saw it (`domain_nbentry_inc`). */
  #countOwned(transaction: Transaction, owner: number): boolean {
    const { domains, domainExists } = this.#parts;
    const mustExist = this.#countsAtReply;
    const record = domains.find(owner) ?? (mustExist && domainExists(owner) ? domains.get(owner) : undefined);
    if (mustExist && record === undefined) return false;
    transaction.countNode(owner, 1);
    record?.see('nodes', record.nodeCount + transaction.nodeCountDeltas().get(owner)!);
    return true;
  }

  /** Whether a node of that owner can be taken from its account: it may have died in a transaction (`domain_nbentry_dec`). */
  #canPayBack(owner: number): boolean {
    return !this.#countsAtReply || this.#parts.domains.find(owner) !== undefined;
  }

  /** Whether the creator's quota allows one more node; `countAtStart` is what it owned when the request came. */
  #hasRoom(connection: StoreConnection, path: string, countAtStart: number): boolean {
    const { gate, profile } = this.#parts;
    const { domain, domid, privileged } = connection;
    const count = (this.#countsAtReply ? countAtStart : domain.nodeCount) + 1;
    const tooMany = !privileged && exceedsQuota(profile, domain.quotas, 'nodes', count);
    return !gate.refuses('nodes', domid, path, tooMany, count, domain.quotas.nodes);
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
    const parent = this.#access.read(context, parentName);
    if (typeof parent === 'string') return parent === 'ENOENT' ? 'EINVAL' : parent;
    if (!this.#removeBelow(context, path, path)) return 'EIO';
    // A transaction may know the parent from before the child was added; it will not commit (`delete_child`).
    if (!parent.children.has(baseName(path))) return 'EIO';
    const draft = { ...this.#access.draft(parent), removes: baseName(path) };
    return this.#access.put(context, parentName, draft, false);
  }

  #removeBelow(context: NodeContext | undefined, path: string, top: string): boolean {
    const transaction = context?.transaction;
    const node = this.#access.read(context, path);
    if (typeof node === 'string') return false;
    let goneCount = 0;
    for (const name of node.children.names()) {
      if (!this.#removeBelow(context, childPath(path, name), top)) {
        this.#keepRest(context, path, node, goneCount);
        return false;
      }
      goneCount += 1;
    }
    this.#access.tick(context);
    if (transaction === undefined) {
      this.#parts.tree.delete(path);
    } else {
      const owner = node.permissions[0].domid;
      if (!this.#canPayBack(owner)) {
        this.#keepRest(context, path, node, goneCount);
        transaction.lose(path);
        return false;
      }
      transaction.put(path, undefined);
      transaction.countNode(owner, -1);
    }
    this.#access.fire(context, path, path !== top, node);
    // The daemon writes the parent anew after every child, though it is next to go (`rm_from_parent`).
    if (path !== top) this.#access.tick(context);
    return true;
  }

  /** A removal that cannot go on, which happens in transactions only, leaves the children that it did not come to. */
  #keepRest(context: NodeContext | undefined, path: string, node: TreeNode, goneCount: number): void {
    if (goneCount === 0) return;
    const children = ChildList.of([...node.children.names()].slice(goneCount));
    this.#access.put(context, path, { ...this.#access.draft(node), children }, false);
  }
}
