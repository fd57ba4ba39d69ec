import { DOMID_ANY } from '@virtlab/abi/xen';
import { XENSTORE_SERVER_FEATURE_DOMID_ANY } from '@virtlab/abi/xs-wire';
import type { ByteString } from './byte-string.ts';
import type { DomainTable } from './domain-table.ts';
import type { XenstoreErrorCode } from './errors.ts';
import type { LiveTree } from './live-tree.ts';
import type { NodeContext } from './node-engine.ts';
import { parentPath } from './path.ts';
import { type NodePermissions, XS_PERM_IGNORE, permittedMask, retirePermissions } from './permissions.ts';
import type { XenstoreProfile, XenstoreQuotas } from './profile.ts';
import type { QuotaGate } from './quota-gate.ts';
import { exceedsMemory, exceedsNodeSize, exceedsQuota } from './quota-rules.ts';
import type { StoreConnection } from './store-connection.ts';
import type { StoreObserver } from './store-observer.ts';
import { type ChildList, type TreeNode, nodeSize, treeNode } from './tree-node.ts';
import type { WatchTable } from './watch-table.ts';

/** What the operations work on; owned by the store. */
export interface NodeOperationsParts {
  readonly profile: XenstoreProfile;
  /** Common to all; those of a connection are its domain's. */
  readonly quotas: XenstoreQuotas;
  readonly tree: LiveTree;
  readonly domains: DomainTable;
  readonly watches: WatchTable;
  /** Counts every change in the store. */
  readonly clock: { generation: number };
  readonly domainExists: (domid: number) => boolean;
  readonly forceConflict: () => boolean;
  /** Asked wherever a quota may refuse. */
  readonly gate: QuotaGate;
  readonly observer: StoreObserver;
  /** The connection writes or removes a node outside of transactions, or commits one: what a rate limit counts. */
  readonly onWrite: (connection: StoreConnection, kind: 'direct' | 'commit') => void;
}

/** A node version that is to be written; `adds` or `removes` one child's name. */
export interface NodeDraft {
  readonly value: ByteString;
  readonly permissions: NodePermissions;
  readonly children: ChildList;
  readonly adds?: string;
  readonly removes?: string;
}

/** Reading and writing single nodes, directly or in a transaction: what all operations are made of (`access_node`). */
export class NodeAccess {
  readonly #parts: NodeOperationsParts;

  constructor(parts: NodeOperationsParts) {
    this.#parts = parts;
  }

  /** The node as the caller sees it; reading in a transaction captures it. */
  read(context: NodeContext | undefined, path: string): TreeNode | 'ENOENT' | 'ENOSPC' {
    const { gate, profile, tree } = this.#parts;
    const transaction = context?.transaction;
    if (context === undefined || transaction === undefined) return tree.get(path) ?? 'ENOENT';
    let accessed = transaction.find(path);
    if (accessed === undefined) {
      const { domain, domid, privileged } = context.connection;
      const count = transaction.accessedCount + 1;
      const tooMany = !privileged && exceedsQuota(profile, domain.quotas, 'transactionNodes', count);
      if (gate.refuses('transaction-nodes', domid, path, tooMany, count, domain.quotas.transactionNodes)) {
        transaction.failed = true;
        return 'ENOSPC';
      }
      if (!privileged) domain.see('transactionNodes', count);
      accessed = transaction.capture(path, tree.get(path));
      if (accessed.node !== undefined) this.#seeSize(context, accessed.node.size);
    }
    return accessed.node ?? 'ENOENT';
  }

  /** The rights of the connection on the node. */
  mask({ connection }: NodeContext, node: TreeNode): number {
    if (connection.privileged) return permittedMask(node.permissions, connection, () => true);
    return permittedMask(node.permissions, connection, (domid) =>
      this.#parts.domains.isCurrent(domid, node.generation),
    );
  }

  /** The true error only for those who may do the same to the nearest existing ancestor; EACCES for others. */
  hide(context: NodeContext, path: string, code: XenstoreErrorCode, mask: number): XenstoreErrorCode {
    if (context.connection.privileged && context.transaction === undefined) return code;
    for (let ancestor = parentPath(path); ; ancestor = parentPath(ancestor)) {
      const node = this.read(context, ancestor);
      if (node === 'ENOSPC') return node;
      if (typeof node !== 'string') return (this.mask(context, node) & mask) === 0 ? 'EACCES' : code;
      if (ancestor === '/') return 'EACCES';
    }
  }

  /** The next version of a node, unchanged so far: entries of domains that are gone stay without effect. */
  draft(node: TreeNode): NodeDraft {
    const isCurrent = (domid: number): boolean => this.#parts.domains.isCurrent(domid, node.generation);
    return {
      value: node.value,
      children: node.children,
      permissions: retirePermissions(node.permissions, isCurrent),
    };
  }

  /** Writes a version; `limited` applies the quotas. A failure inside a transaction dooms it. */
  put(
    context: NodeContext | undefined,
    path: string,
    draft: NodeDraft,
    limited: boolean,
  ): XenstoreErrorCode | undefined {
    const { profile, tree } = this.#parts;
    const transaction = context?.transaction;
    const { value, permissions, children, adds, removes } = draft;
    const generation = this.tick(context);
    const failure = limited ? this.#checkLimits(context, path, draft) : undefined;
    if (failure !== undefined) {
      if (transaction !== undefined) transaction.failed = true;
      return failure;
    }
    const names =
      adds !== undefined ? children.with(adds) : removes !== undefined ? children.without(removes) : children;
    const node = treeNode(profile, value, permissions, names, generation);
    if (context !== undefined && !limited) this.#seeSize(context, node.size);
    if (transaction === undefined) tree.set(path, node);
    else transaction.put(path, node);
    return undefined;
  }

  /** Events of a change: now, or when the transaction commits. */
  fire(
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

  /** A modifying access: the store's next generation, and outside of transactions a write that is counted. */
  tick(context: NodeContext | undefined): number {
    this.#parts.clock.generation += 1;
    if (context !== undefined && context.transaction === undefined)
      this.#parts.onWrite(context.connection, 'direct');
    return this.#parts.clock.generation;
  }

  /** Marks entries of domains that do not exist; takes note of the others, so that they are told from later ones. */
  resolveDomains(connection: StoreConnection, permissions: NodePermissions): NodePermissions {
    const { domains, domainExists } = this.#parts;
    const knowsAny = (connection.domain.features & XENSTORE_SERVER_FEATURE_DOMID_ANY) !== 0;
    const missing = new Set<number>();
    for (const { domid } of permissions) {
      if (domid === DOMID_ANY && domains.knowsAny) {
        if (!knowsAny) missing.add(domid);
      } else if (domains.find(domid) === undefined) {
        if (domainExists(domid)) domains.get(domid);
        else missing.add(domid);
      }
    }
    if (missing.size === 0) return permissions;
    const [owner, ...others] = permissions.map((entry) =>
      missing.has(entry.domid) ? { ...entry, mask: entry.mask | XS_PERM_IGNORE } : entry,
    );
    return [owner!, ...others];
  }

  /** A version is written, which no quota forbids: only its size is remembered (`domain_max_chk`). */
  #seeSize({ connection }: NodeContext, size: number): void {
    const { domain, privileged } = connection;
    if (!privileged && !exceedsNodeSize(this.#parts.profile, domain.quotas, size))
      domain.see('nodeSize', size);
  }

  #checkLimits(
    context: NodeContext | undefined,
    path: string,
    draft: NodeDraft,
  ): XenstoreErrorCode | undefined {
    const { domains, gate, profile, tree } = this.#parts;
    const { value, permissions, children, adds } = draft;
    const childrenSize = children.size + (adds === undefined ? 0 : adds.length + 1);
    const size = nodeSize(profile, value.length, permissions.length, childrenSize);
    if (context === undefined) return undefined;
    const { connection, transaction } = context;
    const { domid, domain, privileged } = connection;
    const tooLarge = !privileged && exceedsNodeSize(profile, domain.quotas, size);
    if (gate.refuses('node-size', domid, path, tooLarge, size, domain.quotas.nodeSize)) return 'ENOSPC';
    if (!privileged) domain.see('nodeSize', size);
    const owner = permissions[0].domid;
    const ownerPays = transaction === undefined && profile.memoryQuotaOf === 'owner';
    const payer = ownerPays ? owner : domid;
    const used = transaction?.memoryWith(path, size) ?? tree.memoryWith(path, owner, size);
    const isLimited = ownerPays ? payer !== 0 : !privileged;
    const quotas = ownerPays ? (domains.find(owner)?.quotas ?? domain.quotas) : domain.quotas;
    const isFull = isLimited && exceedsMemory(quotas, used);
    return gate.refuses('memory', payer, path, isFull, used, quotas.memorySize) ? 'EIO' : undefined;
  }
}
