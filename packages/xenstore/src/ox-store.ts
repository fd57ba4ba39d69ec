import type { ByteString } from './byte-string.ts';
import type { XenstoreErrorCode } from './errors.ts';
import { type OxRight, isOxDomain0, isOxOwner, oxPermits } from './ox-permissions.ts';
import { type NodePermissions, type PermissionSubject, XS_PERM_READ, XS_PERM_WRITE } from './permissions.ts';
import type { XenstoreQuotas } from './profile.ts';
import type { QuotaGate } from './quota-gate.ts';
import { SnapshotMap } from './snapshot-map.ts';
import {
  SnapshotNode,
  type SnapshotPath,
  deepestNode,
  nodeAt,
  snapshotPathText,
  withNodeAt,
  withParentChanged,
} from './snapshot-node.ts';

/** Who owns `/` after its owner was released. */
const NOBODY = -1;

/** What limits the store, and who hears of a refusal. */
export interface OxLimits {
  readonly quotas: XenstoreQuotas;
  readonly gate: QuotaGate;
}

/** Nodes by owner. A count that comes to 0 is forgotten. */
export type OxNodeCounts = SnapshotMap<number>;

/**
 * A tree and who owns how many of its nodes: the store itself, or the copy that a transaction works on (store.ml). What
 * an operation checks, and in which order, is that of the functions of the same name there. Copying costs nothing.
 */
export class OxStore {
  root: SnapshotNode;
  nodeCounts: OxNodeCounts;
  /** How often a domain was forgotten. */
  resetCount = 0;
  readonly #limits: OxLimits;

  constructor(root: SnapshotNode, nodeCounts: OxNodeCounts, limits: OxLimits) {
    this.root = root;
    this.nodeCounts = nodeCounts;
    this.#limits = limits;
  }

  static create(limits: OxLimits): OxStore {
    return new OxStore(SnapshotNode.leaf('', [{ domid: 0, mask: 0 }]), SnapshotMap.empty(), limits);
  }

  copy(): OxStore {
    const copy = new OxStore(this.root, this.nodeCounts, this.#limits);
    copy.resetCount = this.resetCount;
    return copy;
  }

  find(subject: PermissionSubject, path: SnapshotPath, right: OxRight): SnapshotNode | XenstoreErrorCode {
    const node = nodeAt(this.root, path);
    if (node === undefined) return 'ENOENT';
    return oxPermits(node.permissions, subject, right) ? node : 'EACCES';
  }

  read(subject: PermissionSubject, path: SnapshotPath): SnapshotNode | XenstoreErrorCode {
    return this.find(subject, path, XS_PERM_READ);
  }

  /** The parent must exist. The quota is asked before the permission, and the owner of the parent pays. */
  write(subject: PermissionSubject, path: SnapshotPath, value: ByteString): XenstoreErrorCode | undefined {
    const { node, isWhole } = deepestNode(this.root, path);
    const failure = this.#checkQuota(subject, path, node, isWhole, value.length);
    if (failure !== undefined) return failure;
    if (!oxPermits(node.permissions, subject, XS_PERM_WRITE)) return 'EACCES';
    if (isWhole) {
      this.root = withNodeAt(this.root, path, node.withValue(value));
      return undefined;
    }
    this.root = withParentChanged(this.root, path, (parent, name) =>
      parent.withChild(name, SnapshotNode.leaf(value, parent.permissions)),
    );
    this.#count(node.permissions[0].domid, 1);
    return undefined;
  }

  /** EEXIST for a node that is there and may be written. `/` may always be made. */
  mkdir(subject: PermissionSubject, path: SnapshotPath): XenstoreErrorCode | undefined {
    if (path.length === 0) return undefined;
    const { node, isWhole } = deepestNode(this.root, path);
    const failure = isWhole ? undefined : this.#checkQuota(subject, path, node, isWhole, 0);
    if (failure !== undefined) return failure;
    if (!oxPermits(node.permissions, subject, XS_PERM_WRITE)) return 'EACCES';
    if (isWhole) return 'EEXIST';
    this.root = withParentChanged(this.root, path, (parent, name) =>
      parent.withChild(name, SnapshotNode.leaf('', parent.permissions)),
    );
    this.#count(node.permissions[0].domid, 1);
    return undefined;
  }

  /** Removing `/` leaves it, empty. */
  rm(subject: PermissionSubject, path: SnapshotPath): XenstoreErrorCode | undefined {
    const node = this.find(subject, path, XS_PERM_WRITE);
    if (typeof node === 'string') return node;
    this.root =
      path.length === 0
        ? node.withoutChildren()
        : withParentChanged(this.root, path, (parent, name) => parent.withoutChild(name));
    this.#uncountTree(node);
    return undefined;
  }

  setPermissions(
    subject: PermissionSubject,
    path: SnapshotPath,
    permissions: NodePermissions,
  ): XenstoreErrorCode | undefined {
    const node = nodeAt(this.root, path);
    if (node === undefined) return 'ENOENT';
    const owner = node.permissions[0].domid;
    const newOwner = permissions[0].domid;
    if (owner !== newOwner && !isOxDomain0(subject)) return 'EACCES';
    if (path.length > 0 && !isOxOwner(subject, node.permissions)) return 'EACCES';
    if (!oxPermits(node.permissions, subject, XS_PERM_WRITE)) return 'EACCES';
    this.root = withNodeAt(this.root, path, node.withPermissions(permissions));
    this.#count(owner, -1);
    this.#count(newOwner, 1);
    return undefined;
  }

  /**
   * `reset_permissions`: what the domain owned disappears with everything below, entries for it too. The original makes
   * every node anew by that, so that no transaction begun before is merged any more; here `resetCount` says so.
   */
  forgetDomain(domid: number): void {
    const root = withoutDomain(this.root, domid, true)!;
    this.root = root.withPermissions(root.permissions);
    this.resetCount += 1;
    this.nodeCounts = this.nodeCounts.delete(String(domid));
  }

  /** `set_node` with what a transaction changed of the counts since `original`. */
  install(path: SnapshotPath, node: SnapshotNode, original: OxNodeCounts, changed: OxNodeCounts): void {
    this.root = withNodeAt(this.root, path, node);
    for (const [domid, count] of changed.entries()) {
      const delta = count - (original.get(domid) ?? 0);
      if (delta !== 0) this.#count(Number(domid), delta);
    }
  }

  #checkQuota(
    subject: PermissionSubject,
    path: SnapshotPath,
    deepest: SnapshotNode,
    isWhole: boolean,
    valueSize: number,
  ): XenstoreErrorCode | undefined {
    const { quotas, gate } = this.#limits;
    const { nodeSize, nodes } = quotas;
    const { domid } = subject;
    if (gate.refuses('node-size', domid, snapshotPathText(path), valueSize > nodeSize, valueSize, nodeSize)) {
      return 'E2BIG';
    }
    if (isWhole) return undefined;
    const owner = deepest.permissions[0].domid;
    const used = this.nodeCounts.get(String(owner)) ?? 0;
    const isFull = !isOxDomain0(subject) && owner > 0 && used >= nodes;
    return gate.refuses('nodes', domid, snapshotPathText(path), isFull, used, nodes) ? 'EQUOTA' : undefined;
  }

  #count(domid: number, delta: number): void {
    const key = String(domid);
    const count = (this.nodeCounts.get(key) ?? 0) + delta;
    this.nodeCounts = count === 0 ? this.nodeCounts.delete(key) : this.nodeCounts.set(key, count);
  }

  #uncountTree(node: SnapshotNode): void {
    this.#count(node.permissions[0].domid, -1);
    for (const [, child] of node.children.entries()) this.#uncountTree(child);
  }
}

/**
 * The tree without nodes and entries of the domain; undefined if the node is its own, but `/` is then left to nobody.
 * Shares what has none.
 */
function withoutDomain(node: SnapshotNode, domid: number, isRoot: boolean = false): SnapshotNode | undefined {
  const [owner, ...others] = node.permissions;
  const isOwn = owner.domid === domid;
  // The original marks what is to go by that owner, and so takes along what a client gave to it.
  if ((isOwn || owner.domid === NOBODY) && !isRoot) return undefined;
  let { children, count } = node;
  for (const [name, child] of node.children.entries()) {
    const kept = withoutDomain(child, domid);
    count += (kept?.count ?? 0) - child.count;
    children = kept === undefined ? children.delete(name) : children.set(name, kept);
  }
  const isListed = others.some((entry) => entry.domid === domid);
  if (children === node.children && !isListed && !isOwn) return node;
  const permissions: NodePermissions = isOwn
    ? [{ ...owner, domid: NOBODY }, ...others]
    : [owner, ...others.filter((entry) => entry.domid !== domid)];
  return new SnapshotNode(node.value, permissions, children, count);
}
