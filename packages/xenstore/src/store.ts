import { XS_INTRODUCE_DOMAIN, XS_RELEASE_DOMAIN } from '@virtlab/abi/xs-wire';
import { DOMID_FIRST_RESERVED, DOMID_SELF } from '@virtlab/abi/xen';
import type { ByteString } from './byte-string.ts';
import { type DomainRecord, DomainTable } from './domain-table.ts';
import type { XenstoreErrorCode } from './errors.ts';
import { LiveTree } from './live-tree.ts';
import { baseName, isNodePath, parentPath } from './path.ts';
import { XS_PERM_NONE, withOwner } from './permissions.ts';
import { PROFILE_C_4_17, type XenstoreProfile, type XenstoreQuotas } from './profile.ts';
import { StoreConnection, type StoreWatch, type WatchEventSink } from './store-connection.ts';
import { describeUse, type StoreUse, verifyTree } from './store-report.ts';
import { type NodeContext, NodeOperations } from './node-operations.ts';
import { Transaction } from './transaction.ts';
import { ChildList, type TreeNode, treeNode } from './tree-node.ts';
import { WatchTable } from './watch-table.ts';

export { PROFILE_C_4_17, type XenstoreProfile, type XenstoreQuotas } from './profile.ts';
export type { StoreConnection, StoreWatch, WatchEventSink } from './store-connection.ts';
export type { StoreUse } from './store-report.ts';
export type { Transaction } from './transaction.ts';
export type { TreeNode } from './tree-node.ts';
export { firstEventPath } from './watch-table.ts';

export interface StoreOptions {
  /** Default: `PROFILE_C_4_17`. */
  readonly profile?: XenstoreProfile;
  /** Overrides of the profile's quotas. */
  readonly quotas?: Partial<XenstoreQuotas>;
  /**
   * Whether the hypervisor knows the domain. Permission entries for others have no effect, and they cannot own
   * nodes. Default: every id that is not reserved, since a store without a hypervisor cannot know.
   */
  readonly domainExists?: (domid: number) => boolean;
  /** Asked when a transaction ends: true makes it fail with EAGAIN, as if it had met another one. For tests. */
  readonly forceConflict?: () => boolean;
}

export interface StoreIdentity {
  readonly domid: number;
  /** Exempt from permissions and quotas, and allowed to administrate: domain 0 and socket clients. */
  readonly privileged: boolean;
}

/**
 * The tree with its permissions, transactions, watches and quotas. A pure data structure: synchronous, without
 * clock, input or output. Operations answer with what the daemon would answer, an error code where it would send
 * one, and never throw for anything a client did. Paths are canonical (`canonicalPath`), values byte strings.
 */
export class XenstoreStore {
  readonly profile: XenstoreProfile;
  /** In force now; may be changed at any time. */
  readonly quotas: XenstoreQuotas;
  readonly #domains: DomainTable;
  readonly #tree: LiveTree;
  readonly #watches: WatchTable;
  readonly #nodes: NodeOperations;
  readonly #connections = new Set<StoreConnection>();
  readonly #clock = { generation: 0 };
  #connectionSequence = 0;

  constructor(options: StoreOptions = {}) {
    this.profile = options.profile ?? PROFILE_C_4_17;
    this.quotas = { ...this.profile.quotas, ...options.quotas };
    this.#domains = new DomainTable(() => this.#clock.generation);
    this.#domains.get(0).introduced = true;
    this.#tree = new LiveTree(this.#domains);
    this.#watches = new WatchTable(this.#tree, this.#domains, this.profile, this.quotas);
    this.#nodes = new NodeOperations({
      profile: this.profile,
      quotas: this.quotas,
      tree: this.#tree,
      domains: this.#domains,
      watches: this.#watches,
      clock: this.#clock,
      domainExists: options.domainExists ?? ((domid) => domid < DOMID_FIRST_RESERVED),
      forceConflict: options.forceConflict ?? (() => false),
    });
    this.#plant();
  }

  /** Nodes in the tree, `/` included. */
  get nodeCount(): number {
    return this.#tree.count;
  }

  get watchCount(): number {
    return this.#watches.count;
  }

  /** Counts every change; the first string of a DIRECTORY_PART reply is a node's share of it. */
  get generation(): number {
    return this.#clock.generation;
  }

  connections(): Iterable<StoreConnection> {
    return this.#connections;
  }

  openConnection(identity: StoreIdentity, onEvent: WatchEventSink): StoreConnection {
    this.#connectionSequence += 1;
    const domain = this.#domains.get(identity.domid);
    const connection = new StoreConnection(domain, identity.privileged, this.#connectionSequence, onEvent);
    this.#connections.add(connection);
    return connection;
  }

  /** Drops the connection's watches and transactions. */
  closeConnection(connection: StoreConnection): void {
    this.resetConnection(connection);
    this.#connections.delete(connection);
  }

  /** RESET_WATCHES: drops the watches, and also the transactions, of a connection that goes on living. */
  resetConnection(connection: StoreConnection): void {
    this.#watches.removeAll(connection);
    for (const transaction of connection.transactions.values()) this.#forget(connection, transaction);
  }

  /** The node, if the connection holds all rights of `mask` on it. */
  find(context: NodeContext, path: string, mask: number): TreeNode | XenstoreErrorCode {
    return this.#nodes.find(context, path, mask);
  }

  write(context: NodeContext, path: string, value: ByteString): XenstoreErrorCode | undefined {
    return this.#nodes.write(context, path, value);
  }

  mkdir(context: NodeContext, path: string): XenstoreErrorCode | undefined {
    return this.#nodes.mkdir(context, path);
  }

  rm(context: NodeContext, path: string): XenstoreErrorCode | undefined {
    return this.#nodes.rm(context, path);
  }

  /** `entries` as on the wire, `<n|r|w|b><domid>`. Also for the special names. */
  setPermissions(
    context: NodeContext,
    path: string,
    entries: readonly string[],
  ): XenstoreErrorCode | undefined {
    return this.#nodes.setPermissions(context, path, entries);
  }

  /** Registers; the caller sends the first event (`firstEventPath`). `path` is as the client gave it. */
  watch(connection: StoreConnection, path: string, token: string): StoreWatch | XenstoreErrorCode {
    return this.#watches.add(connection, path, token);
  }

  unwatch(connection: StoreConnection, path: string, token: string): XenstoreErrorCode | undefined {
    return this.#watches.remove(connection, path, token);
  }

  startTransaction(connection: StoreConnection): Transaction | XenstoreErrorCode {
    const { domain } = connection;
    if (!connection.privileged && domain.transactionCount > this.quotas.transactions) return 'ENOSPC';
    this.#clock.generation += 1;
    const transaction = new Transaction(connection.takeTransactionId(), domain);
    connection.transactions.set(transaction.id, transaction);
    domain.transactionCount += 1;
    return transaction;
  }

  /** Ends it in any case; with `commit` its changes become visible and its events fire, or nothing happens at all. */
  endTransaction(
    context: NodeContext,
    transaction: Transaction,
    commit: boolean,
  ): XenstoreErrorCode | undefined {
    const { connection } = context;
    this.#forget(connection, transaction);
    return commit ? this.#nodes.commit(connection, transaction, context.cause) : undefined;
  }

  isIntroduced(domid: number): boolean {
    return domid === DOMID_SELF || this.#domains.find(domid)?.introduced === true;
  }

  /** Returns whether the domain is new; only then `@introduceDomain` fires. */
  introduce(domid: number): boolean {
    const domain = this.#domains.get(domid);
    if (domain.introduced) return false;
    domain.introduced = true;
    domain.shutdown = false;
    this.#watches.fireSpecial(XS_INTRODUCE_DOMAIN);
    return true;
  }

  /**
   * The domain is gone: all nodes it owned disappear with everything below, permission entries for it lose their
   * meaning, and `@releaseDomain` fires if it was introduced. Its connections must have been closed before.
   */
  releaseDomain(domid: number): void {
    const domain = this.#domains.find(domid);
    if (domain === undefined || domid === 0) return;
    for (const path of this.#tree.topmostOwned(domid)) this.#nodes.removeOrphan(path);
    const root = this.#tree.get('/')!;
    if (root.permissions[0].domid === domid) {
      const permissions = withOwner(root.permissions, 0);
      this.#tree.set('/', treeNode(this.profile, root.value, permissions, root.children, root.generation));
    }
    this.#watches.forgetDomain(domid);
    this.#domains.delete(domid);
    this.#clock.generation += 1; // so that every node is older than a later domain of this id
    if (domain.introduced) this.#watches.fireSpecial(XS_RELEASE_DOMAIN);
  }

  /** The domain has shut down or crashed but still exists: `@releaseDomain` fires once, until `resume`. */
  shutdownDomain(domid: number): void {
    const domain = this.#domains.find(domid);
    if (domain === undefined || !domain.introduced || domain.shutdown) return;
    domain.shutdown = true;
    this.#watches.fireSpecial(XS_RELEASE_DOMAIN);
  }

  resume(domid: number): void {
    const domain = this.#domains.find(domid);
    if (domain !== undefined) domain.shutdown = false;
  }

  setTarget(domid: number, target: number): void {
    this.#domains.get(domid).target = target;
  }

  domain(domid: number): DomainRecord | undefined {
    return this.#domains.find(domid);
  }

  /** What every domain uses. */
  use(): StoreUse[] {
    return describeUse(this.#domains, this.#connections);
  }

  /** Looks for contradictions in tree and accounts; empty when all is well. */
  verify(): string[] {
    return verifyTree(this.#tree, this.#domains);
  }

  #forget(connection: StoreConnection, transaction: Transaction): void {
    connection.transactions.delete(transaction.id);
    connection.domain.transactionCount -= 1;
    transaction.end();
  }

  #plant(): void {
    const permissions = [{ domid: 0, mask: XS_PERM_NONE }] as const;
    const empty = (): TreeNode => treeNode(this.profile, '', permissions, ChildList.EMPTY, 0);
    this.#tree.set('/', empty());
    for (const path of this.profile.initialNodes) {
      if (!isNodePath(path, this.quotas.pathSize)) throw new Error(`Profile names no path: ${path}`);
      this.#tree.set(path, empty());
      const parent = this.#tree.get(parentPath(path))!;
      const children = parent.children.with(baseName(path));
      this.#tree.set(parentPath(path), treeNode(this.profile, '', permissions, children, 0));
    }
  }
}
