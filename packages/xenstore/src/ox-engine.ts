import type { ByteString } from './byte-string.ts';
import type { DaemonClock } from './daemon-clock.ts';
import type { DomainTable } from './domain-table.ts';
import type { XenstoreErrorCode } from './errors.ts';
import type { FoundNode, NodeContext, NodeEngine } from './node-engine.ts';
import { OxConflictCredit } from './ox-credit.ts';
import { OX_HISTORY_MS, OxHistory, type OxHistoryRecord } from './ox-history.ts';
import { oxError, oxMkdir, oxRm, oxSetPermissions, oxWrite } from './ox-operations.ts';
import { oxPath } from './ox-path.ts';
import { formatOxPermission, isOxDomain0, oxPermits, parseOxPermissions } from './ox-permissions.ts';
import { type OxLimits, OxStore } from './ox-store.ts';
import { type OxAnswer, type OxChange, type OxPerform, OxView, equalOxAnswers } from './ox-view.ts';
import { OxWatchTable } from './ox-watch-table.ts';
import { type PermissionSubject, XS_PERM_READ, XS_PERM_WRITE } from './permissions.ts';
import { type SnapshotNode, type SnapshotPath, snapshotPathText, walkSnapshot } from './snapshot-node.ts';
import type { StoreConnection } from './store-connection.ts';
import type { StoreObserver } from './store-observer.ts';
import type { Transaction } from './transaction.ts';
import { joinStrings } from './wire.ts';

/** What the engine works on; owned by the store. */
export interface OxEngineParts extends OxLimits {
  readonly domains: DomainTable;
  readonly observer: StoreObserver;
  readonly forceConflict: () => boolean;
  readonly clock: DaemonClock;
  /** Paths of the nodes that exist from the start, with their values. */
  readonly initialNodes: readonly (readonly [path: string, value: ByteString])[];
}

/** A request in progress: answer it, then tell the watchers. */
export interface OxOutcome {
  readonly answer: OxAnswer;
  /** After the reply. */
  readonly fire: () => void;
}

const ROOT_SUBJECT: PermissionSubject = { domid: 0, privileged: true, target: undefined };

/**
 * The daemon in OCaml (`tools/ocaml/xenstored`): the tree is one immutable value, a transaction works on a copy of it
 * and is merged or replayed when it ends.
 */
export class OxEngine implements NodeEngine {
  readonly watches: OxWatchTable;
  readonly #parts: OxEngineParts;
  readonly #store: OxStore;
  readonly #views = new WeakMap<Transaction, OxView>();
  readonly #history: OxHistory;
  readonly #credit = new OxConflictCredit();
  #isTicking = false;
  /** What INTRODUCE said of the domains that it introduced. */
  readonly introduced: Map<number, { readonly gfn: bigint; readonly port: number }> = new Map([
    [0, { gfn: 0n, port: 0 }],
  ]);
  /** Ports by domain that RELEASE left bound: they cannot be bound again for as long as the domain exists. */
  readonly #leftPorts = new Map<number, Set<number>>();
  /** Hears the path of every change, while somebody wants to know. */
  onChange: ((path: string, writer?: StoreConnection) => void) | undefined;
  /** Called when a paused domain may have its credit back. */
  onCredit: (() => void) | undefined;

  constructor(parts: OxEngineParts) {
    this.#parts = parts;
    this.#store = OxStore.create(parts);
    this.#history = new OxHistory(() => parts.clock.now());
    this.watches = new OxWatchTable(parts, parts.observer, () => this.#store.root);
    const view = new OxView(this.#store, 0);
    for (const [path, value] of parts.initialNodes) {
      const components = oxPath(path, parts.quotas.pathSize);
      if (components === undefined) throw new Error(`Profile names no path: ${path}`);
      oxWrite(components, value)(view, ROOT_SUBJECT);
    }
    this.#countNodes();
  }

  get nodeCount(): number {
    return this.#store.root.count;
  }

  *nodes(): IterableIterator<readonly [path: string, node: FoundNode]> {
    for (const [path, node] of walkSnapshot(this.#store.root)) yield [snapshotPathText(path), found(node)];
  }

  /** Whether the domain made others' transactions fail so often that it is not served for now. */
  isPaused(connection: StoreConnection): boolean {
    return !connection.privileged && this.#credit.isPaused(connection.domid);
  }

  started(_connection: StoreConnection, transaction: Transaction): void {
    const view = new OxView(this.#store.copy(), this.#history.commitCount);
    this.#views.set(transaction, view);
    this.#history.started(view);
  }

  viewOf(transaction: Transaction): OxView {
    const view = this.#views.get(transaction);
    if (view === undefined) throw new Error(`Transaction ${transaction.id} was not started here`);
    return view;
  }

  /** Whether a transaction has had all the requests that it may consist of. It can then not even be ended. */
  exceedsRequests(connection: StoreConnection, view: OxView | undefined): boolean {
    if (view === undefined || isOxDomain0(connection)) return false;
    const { gate, quotas } = this.#parts;
    const { requestCount } = view;
    const max = quotas.transactionRequests;
    view.isQuotaReached ||= requestCount >= max;
    const { domid } = connection;
    return gate.refuses('transaction-requests', domid, 'transaction', view.isQuotaReached, requestCount, max);
  }

  /** One request on a node, directly or in a transaction, in which it is remembered. */
  perform(context: NodeContext, perform: OxPerform, isChange: boolean): OxOutcome {
    const { connection, transaction, cause } = context;
    if (transaction !== undefined) {
      const view = this.viewOf(transaction);
      const answer = perform(view, connection);
      view.operations.push({ perform, answer });
      return { answer, fire: () => undefined };
    }
    const view = new OxView(this.#store, this.#history.commitCount);
    const before = isChange && this.#history.watches(connection) ? this.#store.copy() : undefined;
    const answer = perform(view, connection);
    if (!isChange) return { answer, fire: () => undefined };
    this.#history.committed(connection, before, before === undefined ? this.#store : this.#store.copy());
    this.#changed(view.changes, connection);
    return {
      answer,
      fire: () => {
        if (answer.kind === 'ack') {
          this.watches.fire(connection, view.changes, view.oldRoot, this.#store.root, cause);
        }
      },
    };
  }

  /** What a path of a request names; undefined: EINVAL. */
  path(canonical: string): SnapshotPath | undefined {
    return oxPath(canonical, this.#parts.quotas.pathSize);
  }

  /** Shows the whole node, so a transaction that asked depends on all of it; a READ depends on the value alone. */
  find(context: NodeContext, path: string, mask: number): FoundNode | XenstoreErrorCode {
    const components = this.path(path);
    if (components === undefined) return 'EINVAL';
    let node: SnapshotNode | undefined;
    const { answer } = this.perform(
      context,
      (view, subject) => {
        const seen = view.read(subject, components);
        if (typeof seen === 'string') return oxError(seen);
        const needed = (mask & XS_PERM_WRITE) !== 0 ? XS_PERM_WRITE : XS_PERM_READ;
        if (!oxPermits(seen.permissions, subject, needed)) return oxError('EACCES');
        node = seen;
        return { kind: 'reply', payload: context.transaction === undefined ? '' : describe(seen) };
      },
      false,
    );
    return answer.kind === 'error' ? answer.code : found(node!);
  }

  write(context: NodeContext, path: string, value: ByteString): XenstoreErrorCode | undefined {
    return this.#change(context, path, (components) => oxWrite(components, value));
  }

  mkdir(context: NodeContext, path: string): XenstoreErrorCode | undefined {
    return this.#change(context, path, oxMkdir);
  }

  rm(context: NodeContext, path: string): XenstoreErrorCode | undefined {
    return this.#change(context, path, oxRm);
  }

  setPermissions(
    context: NodeContext,
    path: string,
    entries: readonly string[],
  ): XenstoreErrorCode | undefined {
    const permissions = parseOxPermissions(entries);
    if (permissions === undefined) return 'EINVAL';
    return this.#change(context, path, (components) => oxSetPermissions(components, permissions));
  }

  /** A transaction that changed nothing never fails. Its events come before the reply. */
  commit(
    connection: StoreConnection,
    transaction: Transaction,
    cause: unknown,
  ): XenstoreErrorCode | undefined {
    const { observer, forceConflict } = this.#parts;
    const view = this.viewOf(transaction);
    const isForced = forceConflict();
    if (isForced) observer.forcedConflict(connection);
    const isDone = !isForced && (view.isReadOnly || view.commit(this.#store));
    const failure = isDone ? undefined : isForced ? 'EAGAIN' : this.#replay(connection, view);
    this.#history.ended(view);
    if (failure !== undefined || view.isReadOnly) return failure;
    const before = this.#store.copy();
    this.#changed(view.changes, connection);
    this.watches.fire(connection, view.changes, view.oldRoot, view.store.root, cause);
    before.root = view.oldRoot;
    before.nodeCounts = view.oldCounts;
    this.#history.committed(connection, before, this.#store);
    return undefined;
  }

  /** What a transaction that was not committed leaves behind. */
  abandoned(transaction: Transaction): void {
    const view = this.#views.get(transaction);
    if (view !== undefined) this.#history.ended(view);
  }

  /** RELEASE forgets a domain, but not its event channel. */
  leavePort(domid: number): void {
    const port = this.introduced.get(domid)?.port;
    this.introduced.delete(domid);
    if (port === undefined) return;
    const ports = this.#leftPorts.get(domid);
    if (ports === undefined) this.#leftPorts.set(domid, new Set([port]));
    else ports.add(port);
  }

  isPortLeft(domid: number, port: number): boolean {
    return this.#leftPorts.get(domid)?.has(port) === true;
  }

  /** The domain itself is gone. */
  forgetPorts(domid: number): void {
    this.introduced.delete(domid);
    this.#leftPorts.delete(domid);
  }

  removeOrphan(path: string): void {
    const components = oxPath(path, Infinity);
    if (components !== undefined) this.#store.rm(ROOT_SUBJECT, components);
    this.#countNodes();
  }

  removeDomain(domid: number, view?: OxView): void {
    const store = view?.store ?? this.#store;
    store.forgetDomain(domid);
    if (view !== undefined) return;
    this.#credit.forget(domid);
    this.#countNodes();
  }

  /** Nodes of the domain as seen by a request, for CONTROL `quota`; undefined: none. */
  nodeCountOf(domid: number, view: OxView | undefined): number | undefined {
    return (view?.store ?? this.#store).nodeCounts.get(String(domid));
  }

  /** Accounts are not compared: merging a transaction may leave them wrong, as in the original (`Quota.merge`). */
  verify(): string[] {
    const problems: string[] = [];
    for (const [path, { children, count }] of walkSnapshot(this.#store.root)) {
      const names = [...children.keys()];
      let total = 1;
      for (const [, child] of children.entries()) total += child.count;
      const isSorted = names.every((name, index) => index === 0 || names[index - 1]! < name);
      if (!isSorted || names.length !== children.count || total !== count) {
        problems.push(`${snapshotPathText(path)} has its children in disorder`);
      }
    }
    return problems;
  }

  #change(
    context: NodeContext,
    path: string,
    operation: (components: SnapshotPath) => OxPerform,
  ): XenstoreErrorCode | undefined {
    const components = this.path(path);
    if (components === undefined) return 'EINVAL';
    const { answer, fire } = this.perform(context, operation(components), true);
    fire();
    return answer.kind === 'error' ? answer.code : undefined;
  }

  /** Does everything again on the store as it is; if every answer is the same, that is the commit (`transaction_replay`). */
  #replay(connection: StoreConnection, view: OxView): XenstoreErrorCode | undefined {
    connection.takeTransactionId();
    const again = new OxView(this.#store.copy(), this.#history.commitCount);
    const outcome = repeat(view, again, connection);
    if (outcome === 'same' && again.commit(this.#store)) return undefined;
    this.#parts.observer.conflict(connection, snapshotPathText(view.conflictPath(this.#store)));
    return outcome === 'different' ? this.#blame(connection, view) : 'EAGAIN';
  }

  /**
   * Whose change it was without which the transaction would have gone through, pays for it. Who finds that out trips
   * over a request that cannot be repeated: then it is EINVAL.
   */
  #blame(victim: StoreConnection, view: OxView): XenstoreErrorCode {
    let failure: XenstoreErrorCode = 'EAGAIN';
    const appliesTo = (store: OxStore): boolean => {
      const outcome = repeat(view, new OxView(store.copy(), 0), victim);
      if (outcome === 'impossible') failure = 'EINVAL';
      return outcome === 'same';
    };
    const isGuilty = ({ connection, before, after }: OxHistoryRecord): boolean => {
      if (failure !== 'EAGAIN' || !appliesTo(before) || appliesTo(after) || failure !== 'EAGAIN')
        return false;
      this.#credit.charge(connection.domid);
      return true;
    };
    this.#history.guilty(victim, view.startCount, isGuilty);
    this.#scheduleTick();
    return failure;
  }

  #scheduleTick(): void {
    if (this.#isTicking || !this.#credit.isTicking) return;
    this.#isTicking = true;
    this.#parts.clock.after(OX_HISTORY_MS, () => {
      this.#isTicking = false;
      this.#history.trim();
      this.#credit.tick();
      this.onCredit?.();
      this.#scheduleTick();
    });
  }

  #changed(changes: readonly OxChange[], writer?: StoreConnection): void {
    if (this.onChange !== undefined) {
      for (const { path } of changes) this.onChange(snapshotPathText(path), writer);
    }
    this.#countNodes();
  }

  /** The accounts that others look at. */
  #countNodes(): void {
    const { domains } = this.#parts;
    const counts = this.#store.nodeCounts;
    if (counts === this.#counted) return;
    for (const [domid, count] of counts.entries()) {
      if (this.#counted?.get(domid) !== count) domains.get(Number(domid)).nodeCount = count;
    }
    for (const domid of this.#counted?.keys() ?? []) {
      const record = counts.has(domid) ? undefined : domains.find(Number(domid));
      if (record !== undefined) record.nodeCount = 0;
    }
    this.#counted = counts;
  }

  #counted: OxStore['nodeCounts'] | undefined;
}

function repeat(
  view: OxView,
  again: OxView,
  subject: PermissionSubject,
): 'same' | 'different' | 'impossible' {
  for (const { perform, answer } of view.operations) {
    if (perform === undefined) return 'impossible';
    if (!equalOxAnswers(perform(again, subject), answer)) return 'different';
  }
  return 'same';
}

function found(node: SnapshotNode): FoundNode {
  const { value, permissions, children } = node;
  return {
    value,
    permissions,
    generation: 0,
    children: {
      count: children.count,
      names: () => children.keys(),
      has: (name) => children.has(name),
      encoded: () => joinStrings([...children.keys()]),
    },
  };
}

function describe({ value, permissions, children }: SnapshotNode): string {
  return `${value}\0${joinStrings(permissions.map(formatOxPermission))}\0${joinStrings([...children.keys()])}`;
}
