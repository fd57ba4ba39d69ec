import type { DomainTable } from './domain-table.ts';
import type { LiveTree } from './live-tree.ts';
import { baseName, childPath, parentPath } from './path.ts';
import type { StoreConnection } from './store-connection.ts';

/** What one domain uses of its quotas. Sizes in bytes. */
export interface StoreUse {
  readonly domid: number;
  readonly introduced: boolean;
  readonly nodeCount: number;
  readonly watchCount: number;
  readonly transactionCount: number;
  readonly outstandingCount: number;
  readonly memorySize: number;
  readonly connectionCount: number;
}

export function describeUse(domains: DomainTable, connections: Iterable<StoreConnection>): StoreUse[] {
  const counts = new Map<number, number>();
  for (const { domid } of connections) counts.set(domid, (counts.get(domid) ?? 0) + 1);
  return Array.from(domains.all(), (domain) => ({
    domid: domain.domid,
    introduced: domain.introduced,
    nodeCount: domain.nodeCount,
    watchCount: domain.watchCount,
    transactionCount: domain.transactionCount,
    outstandingCount: domain.outstandingCount,
    memorySize: domain.memorySize,
    connectionCount: counts.get(domain.domid) ?? 0,
  }));
}

/** Contradictions between parents and children, and between nodes and accounts, in words. */
export function verifyTree(tree: LiveTree, domains: DomainTable): string[] {
  const problems: string[] = [];
  const counts = new Map<number, number>();
  for (const path of tree.paths()) {
    const node = tree.get(path)!;
    const owner = node.permissions[0].domid;
    counts.set(owner, (counts.get(owner) ?? 0) + 1);
    if (
      path !== '/' &&
      !path.startsWith('@') &&
      tree.get(parentPath(path))?.children.has(baseName(path)) !== true
    ) {
      problems.push(`${path} is not listed by its parent`);
    }
    let size = 0;
    for (const name of node.children.names()) {
      size += name.length + 1;
      if (tree.get(childPath(path, name)) === undefined)
        problems.push(`${path} lists ${name}, which is not there`);
    }
    if (size !== node.children.size)
      problems.push(`${path} counts ${node.children.size} bytes of names, has ${size}`);
  }
  for (const { domid, nodeCount } of domains.all()) {
    const counted = counts.get(domid) ?? 0;
    if (counted !== nodeCount) problems.push(`domain ${domid} owns ${counted} nodes, accounted ${nodeCount}`);
  }
  return problems;
}
