import { DOMID_FIRST_RESERVED } from '@virtlab/abi/xen';
import type { ByteString } from './byte-string.ts';
import { type DaemonClock, SYSTEM_CLOCK } from './daemon-clock.ts';
import { type DomainRecord, DomainTable } from './domain-table.ts';
import type { XenstoreErrorCode } from './errors.ts';
import { LiveTree } from './live-tree.ts';
import { baseName, parentPath } from './path.ts';
import { XS_PERM_READ } from './permissions.ts';
import type { XenstoreProfile, XenstoreQuotas } from './profile.ts';
import { PROFILE_C_4_17 } from './profile-c-4-17.ts';
import { StoreConnection, type StoreWatch, type WatchEventSink } from './store-connection.ts';
import { StoreDomains } from './store-domains.ts';
import { describeUse, type StoreUse, verifyTree } from './store-report.ts';
import type { FoundNode, NodeContext, NodeEngine } from './node-engine.ts';
import { NodeOperations } from './node-operations.ts';
import { OxEngine } from './ox-engine.ts';
import { QuotaGate } from './quota-gate.ts';
import { exceedsQuota } from './quota-rules.ts';
import { initialNodes } from './special-nodes.ts';
import { type StoreImage, loadImage, saveImage } from './store-image.ts';
import { NO_OBSERVER, type StoreObserver } from './store-observer.ts';
import { Transaction } from './transaction.ts';
import { ChildList, treeNode } from './tree-node.ts';
import { WatchTable } from './watch-table.ts';
import type { WatchRegistry } from './watch-registry.ts';
import { WriteRateLimit } from './write-rate-limit.ts';

export type { XenstoreProfile, XenstoreQuotas } from './profile.ts';
export type { StoreConnection, StoreWatch, WatchEventSink } from './store-connection.ts';
export type { FoundNode } from './node-engine.ts';
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
  /**
   * Whether the domain has shut down and does not run again. Default: what `shutdownDomain` and `resume` said. Asked about
   * every domain that was introduced when something happened to any; leave it out where the hypervisor names the domain.
   */
  readonly domainIsDown?: (domid: number) => boolean;
  /** Asked when a transaction ends: true makes it fail with EAGAIN, as if it had met another one. For tests. */
  readonly forceConflict?: () => boolean;
  /** Quotas that count as used up, for privileged connections too; may change while running. For tests. */
  readonly fullQuotas?: ReadonlySet<string>;
  /** Whether guests are slowed down while others have transactions open. Default: as the profile does. */
  readonly limitsWriteRate?: boolean;
  /** Hears why requests are refused and how many hear of a change. */
  readonly observer?: StoreObserver;
  /** Time for what passes by itself. Default: the machine's. */
  readonly clock?: DaemonClock;
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
  /** Who may write how fast now; undefined: as fast as they like. */
  readonly writeRateLimit: WriteRateLimit | undefined;
  /** The lives of domains. */
  readonly domains: StoreDomains;
  readonly #domains: DomainTable;
  readonly #tree: LiveTree;
  readonly #watches: WatchRegistry;
  readonly #nodes: NodeEngine;
  /** The engine, where it is the one of oxenstored; `#tree` is then unused. */
  readonly oxenstored: OxEngine | undefined;
  /** Where changes are heard of. */
  readonly #changing: { onChange: ((path: string, writer?: StoreConnection) => void) | undefined };
  readonly #connections = new Set<StoreConnection>();
  readonly #clock = { generation: 0 };
  readonly #gate: QuotaGate;
  readonly #domainExists: (domid: number) => boolean;
  readonly #observer: StoreObserver;
  #connectionSequence = 0;
  #openTransactionCount = 0;
  /** On whose behalf the tree changes now. */
  #actor: StoreConnection | undefined;

  constructor(options: StoreOptions = {}) {
    this.profile = options.profile ?? PROFILE_C_4_17;
    this.quotas = { ...this.profile.quotas, ...options.quotas };
    this.#observer = options.observer ?? NO_OBSERVER;
    this.#gate = new QuotaGate(this.#observer, options.fullQuotas ?? new Set());
    this.#domainExists = options.domainExists ?? ((domid) => domid < DOMID_FIRST_RESERVED);
    this.#domains = new DomainTable(() => this.#clock.generation, this.profile, this.quotas);
    this.#domains.get(0).introduced = true;
    if (options.limitsWriteRate ?? this.profile.limitsWriteRate) {
      this.writeRateLimit = new WriteRateLimit(options.clock ?? SYSTEM_CLOCK);
      this.writeRateLimit.join(this.#domains.get(0));
    }
    this.#tree = new LiveTree(this.#domains, this.profile.deadPermissions === 'removed');
    if (this.profile.engine === 'oxenstored') {
      this.oxenstored = this.#oxEngine(options);
      this.#changing = this.oxenstored;
      this.#watches = this.oxenstored.watches;
      this.#nodes = this.oxenstored;
      this.domains = this.#storeDomains(options);
      return;
    }
    this.oxenstored = undefined;
    this.#changing = this.#tree;
    const watches = new WatchTable(this.#tree, this.#domains, this.profile, this.#gate, this.#observer);
    this.#watches = watches;
    this.#nodes = new NodeOperations({
      profile: this.profile,
      quotas: this.quotas,
      tree: this.#tree,
      domains: this.#domains,
      watches,
      clock: this.#clock,
      domainExists: this.#domainExists,
      forceConflict: options.forceConflict ?? (() => false),
      gate: this.#gate,
      observer: this.#observer,
      onWrite: (connection) => this.#countWrite(connection),
    });
    this.domains = this.#storeDomains(options);
    this.#plant();
  }

  /** Nodes in the tree, `/` included. */
  get nodeCount(): number {
    return this.oxenstored?.nodeCount ?? this.#tree.count;
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
    if (!identity.privileged) this.writeRateLimit?.join(domain);
    if (!identity.privileged && domain.place === 0) domain.place = this.#connectionSequence;
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
    this.#settle();
  }

  /** The node, if the connection holds all rights of `mask` on it. */
  find(context: NodeContext, path: string, mask: number): FoundNode | XenstoreErrorCode {
    return this.#nodes.find(context, path, mask);
  }

  write(context: NodeContext, path: string, value: ByteString): XenstoreErrorCode | undefined {
    this.#actor = context.connection;
    return this.#nodes.write(context, path, value);
  }

  mkdir(context: NodeContext, path: string): XenstoreErrorCode | undefined {
    this.#actor = context.connection;
    return this.#nodes.mkdir(context, path);
  }

  rm(context: NodeContext, path: string): XenstoreErrorCode | undefined {
    this.#actor = context.connection;
    return this.#nodes.rm(context, path);
  }

  /** `entries` as on the wire, `<n|r|w|b><domid>`. Also for the special names. */
  setPermissions(
    context: NodeContext,
    path: string,
    entries: readonly string[],
  ): XenstoreErrorCode | undefined {
    this.#actor = context.connection;
    return this.#nodes.setPermissions(context, path, entries);
  }

  /** Registers; the caller sends the first event (`firstEventPath`). `path` is as the client gave it. */
  watch(
    connection: StoreConnection,
    path: string,
    token: string,
    depth: number = -1,
  ): StoreWatch | XenstoreErrorCode {
    return this.#watches.add(connection, path, token, depth);
  }

  unwatch(connection: StoreConnection, path: string, token: string): XenstoreErrorCode | undefined {
    return this.#watches.remove(connection, path, token);
  }

  startTransaction(connection: StoreConnection): Transaction | XenstoreErrorCode {
    const { domain, domid, privileged } = connection;
    const { transactions: max } = domain.quotas;
    const { transactionCount } = domain;
    const tooMany =
      !privileged && exceedsQuota(this.profile, domain.quotas, 'transactions', transactionCount + 1);
    if (this.#gate.refuses('transactions', domid, 'TRANSACTION_START', tooMany, transactionCount, max))
      return this.profile.transactionQuotaError;
    this.#clock.generation += 1;
    const transaction = new Transaction(connection.takeTransactionId(), domain, this.#clock.generation);
    connection.transactions.set(transaction.id, transaction);
    domain.transactionCount += 1;
    this.#openTransactionCount += 1;
    this.oxenstored?.started(connection, transaction);
    this.#changing.onChange = this.#onChange;
    return transaction;
  }

  /** Ends it in any case; with `commit` its changes become visible and its events fire, or nothing happens at all. */
  endTransaction(
    context: NodeContext,
    transaction: Transaction,
    commit: boolean,
  ): XenstoreErrorCode | undefined {
    const { connection } = context;
    this.#actor = connection;
    this.#forget(connection, transaction);
    const failure = commit ? this.#nodes.commit(connection, transaction, context.cause) : undefined;
    if (!commit) this.oxenstored?.abandoned(transaction);
    this.#settle();
    return failure;
  }

  /** What the store knows of a domain, if anything. */
  domain(domid: number): DomainRecord | undefined {
    return this.#domains.find(domid);
  }

  /** Every node as it is now. Costs a walk through the tree. */
  save(): StoreImage {
    const context = this.#administrator();
    return saveImage({
      find: (path) => {
        const node = this.#nodes.find(context, path, XS_PERM_READ);
        return typeof node === 'string' ? undefined : node;
      },
      specialPermissions: (name) => this.#watches.specialPermissions?.(name),
      isCurrent: (domid, generation) => this.#domains.isCurrent(domid, generation),
    });
  }

  /**
   * Replaces every node by those of `image`. Only before anybody is connected; throws `DumpError` if a node is
   * refused, and the store must not be used then.
   */
  load(image: StoreImage): void {
    if (this.#connections.size > 0)
      throw new TypeError('A store that somebody is connected to cannot be loaded');
    const context = this.#administrator();
    loadImage(
      {
        children: (path) => {
          const node = this.#nodes.find(context, path, XS_PERM_READ);
          return typeof node === 'string' ? [] : [...node.children.names()];
        },
        rm: (path) => this.#nodes.rm(context, path),
        write: (path, value) => this.#nodes.write(context, path, value),
        mkdir: (path) => this.#nodes.mkdir(context, path),
        setPermissions: (path, entries) => this.#nodes.setPermissions(context, path, entries),
      },
      image,
    );
  }

  /** Nobody's connection, with all rights. */
  #administrator(): NodeContext {
    const connection = new StoreConnection(this.#domains.get(0), true, 0, () => undefined);
    return { connection, transaction: undefined };
  }

  /** What every domain uses. */
  use(): StoreUse[] {
    return describeUse(this.#domains, this.#connections);
  }

  /** Looks for contradictions in tree and accounts; empty when all is well. */
  verify(): string[] {
    return this.oxenstored?.verify() ?? verifyTree(this.#tree, this.#domains);
  }

  /** A write costs only while a transaction is open; the own one is no longer, when it commits. */
  #countWrite({ domain, privileged }: StoreConnection): void {
    if (!privileged && this.#openTransactionCount > 0) this.writeRateLimit?.debit(domain);
  }

  #forget(connection: StoreConnection, transaction: Transaction): void {
    connection.transactions.delete(transaction.id);
    connection.domain.transactionCount -= 1;
    this.#openTransactionCount -= 1;
    transaction.end();
  }

  #storeDomains(options: StoreOptions): StoreDomains {
    return new StoreDomains({
      profile: this.profile,
      table: this.#domains,
      tree: this.#tree,
      watches: this.#watches,
      nodes: this.#nodes,
      oxenstored: this.oxenstored,
      writeRateLimit: this.writeRateLimit,
      connections: this.#connections,
      domainExists: this.#domainExists,
      domainIsDown: options.domainIsDown,
      onOrphans: () => {
        this.#actor = undefined;
      },
    });
  }

  #oxEngine(options: StoreOptions): OxEngine {
    const { profile, quotas } = this;
    return new OxEngine({
      quotas,
      gate: this.#gate,
      domains: this.#domains,
      observer: this.#observer,
      forceConflict: options.forceConflict ?? (() => false),
      clock: options.clock ?? SYSTEM_CLOCK,
      initialNodes: profile.initialNodes.map((path) => [path, profile.initialValues[path] ?? '']),
    });
  }

  readonly #onChange = (path: string, writer: StoreConnection | undefined = this.#actor): void =>
    this.#observer.changed(path, writer);

  /** Who wrote what matters only for as long as a transaction may fail over it. */
  #settle(): void {
    if (this.#openTransactionCount > 0 || this.#changing.onChange === undefined) return;
    this.#changing.onChange = undefined;
    this.#observer.settled();
  }

  /** The nodes that are there from the start; their generations count from 1. */
  #plant(): void {
    for (const [path, permissions] of initialNodes(this.profile)) {
      this.#clock.generation += 1;
      this.#tree.set(path, treeNode(this.profile, '', permissions, ChildList.EMPTY, this.#clock.generation));
      if (path === '/' || path.startsWith('@')) continue;
      const parent = this.#tree.get(parentPath(path))!;
      const children = parent.children.with(baseName(path));
      this.#tree.set(
        parentPath(path),
        treeNode(this.profile, '', parent.permissions, children, parent.generation),
      );
    }
  }
}
