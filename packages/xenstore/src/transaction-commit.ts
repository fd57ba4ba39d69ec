import { isUnprivilegedDomain } from './domain-table.ts';
import type { XenstoreErrorCode } from './errors.ts';
import type { LiveTree } from './live-tree.ts';
import type { NodeOperationsParts } from './node-access.ts';
import { baseName, childPath, parentPath } from './path.ts';
import { exceedsNodesAtEnd } from './quota-rules.ts';
import type { StoreConnection } from './store-connection.ts';
import type { AccessedNode, Transaction } from './transaction.ts';
import { treeNode } from './tree-node.ts';

/** TRANSACTION_END with `T` as the C daemon does it (`finalize_transaction`): all changes and their events, or nothing. */
export function commitTransaction(
  parts: NodeOperationsParts,
  connection: StoreConnection,
  transaction: Transaction,
  cause: unknown,
): XenstoreErrorCode | undefined {
  const { observer, tree } = parts;
  if (transaction.failed) return 'ENOMEM';
  const failure = checkNodeCounts(parts, connection, transaction);
  if (failure !== undefined) return failure;
  const conflict = transaction.conflict((path) => tree.get(path));
  if (conflict !== undefined) {
    observer.conflict(connection, conflict.path);
    return 'EAGAIN';
  }
  if (parts.forceConflict()) {
    observer.forcedConflict(connection);
    return 'EAGAIN';
  }
  const isWhole = applyChanges(parts, transaction, cause);
  if (!isWhole) repair(parts, transaction);
  parts.onWrite(connection, 'commit');
  return undefined;
}

function checkNodeCounts(
  { domains, domainExists, gate, profile }: NodeOperationsParts,
  connection: StoreConnection,
  transaction: Transaction,
): XenstoreErrorCode | undefined {
  const isLimited = transaction.nodeCreated && !connection.privileged;
  const isLenient = profile.nodeAccounting === 'at-reply';
  if (isLenient && !isLimited) return undefined;
  for (const [domid, delta] of transaction.nodeCountDeltas()) {
    const exists = domains.find(domid) !== undefined || domainExists(domid);
    const record = exists ? domains.get(domid) : undefined;
    const count = (record?.nodeCount ?? 0) + delta;
    const { quotas } = record ?? connection.domain;
    const isCounted = isLimited && isUnprivilegedDomain(domid) && !(isLenient && delta < 0);
    const tooMany = isCounted && exceedsNodesAtEnd(profile, quotas, count);
    if (tooMany && gate.refuses('nodes', domid, 'TRANSACTION_END', true, count, quotas.nodes))
      return 'ENOSPC';
    if (record === undefined) return 'ENOMEM';
  }
  return undefined;
}

/**
 * Writes what the transaction changed, and fires. A daemon that counts at the reply does not look before whether all
 * owners still live; it writes the nodes of the others. Returns whether that did not happen.
 */
function applyChanges(
  { clock, domains, profile, tree, watches }: NodeOperationsParts,
  transaction: Transaction,
  cause: unknown,
): boolean {
  const isLenient = profile.nodeAccounting === 'at-reply';
  let isWhole = true;
  for (const accessed of transaction.accessed()) {
    const { path, node, original, modified, lost, event } = accessed;
    if (!modified) continue;
    if (lost) isWhole = false;
    if (node === undefined || lost) tree.delete(path);
    else if (isLenient && domains.find(node.permissions[0].domid) === undefined) isWhole = false;
    else tree.set(path, { ...node, generation: ++clock.generation });
    if (event !== 'none') watches.fire(path, event === 'exact', tree.get(path), original, cause);
  }
  return isWhole;
}

/**
 * After a commit that was not whole: nodes that their parents do not list go, and names of nodes that are not there
 * (`check_store`). Only what the transaction changed can be so.
 */
function repair({ clock, profile, tree }: NodeOperationsParts, transaction: Transaction): void {
  const isChanged = ({ modified, path }: AccessedNode): boolean => {
    return modified && path !== '/' && !path.startsWith('@');
  };
  for (const { path } of [...transaction.accessed()].filter(isChanged)) {
    const parent = tree.get(parentPath(path));
    const isListed = parent?.children.has(baseName(path)) === true;
    const isThere = tree.get(path) !== undefined;
    if (isThere && !isListed) {
      deleteTree(tree, path);
    } else if (parent !== undefined && isListed && !isThere) {
      const { value, permissions } = parent;
      const children = parent.children.without(baseName(path));
      tree.set(parentPath(path), treeNode(profile, value, permissions, children, ++clock.generation));
    }
  }
}

function deleteTree(tree: LiveTree, path: string): void {
  for (const name of tree.get(path)?.children.names() ?? []) deleteTree(tree, childPath(path, name));
  tree.delete(path);
}
