import type { XenstoreErrorCode } from './errors.ts';
import { equalOxPermissions } from './ox-permissions.ts';
import type { OxNodeCounts, OxStore } from './ox-store.ts';
import type { NodePermissions, PermissionSubject } from './permissions.ts';
import { type SnapshotNode, type SnapshotPath, nodeAt } from './snapshot-node.ts';

export type OxChangeKind = 'write' | 'mkdir' | 'rm' | 'setPermissions';

/** A change that watchers will hear of. */
export interface OxChange {
  readonly kind: OxChangeKind;
  readonly path: SnapshotPath;
}

/** What one request did: what is compared when a transaction is replayed. */
export type OxAnswer =
  | { readonly kind: 'error'; readonly code: XenstoreErrorCode }
  | { readonly kind: 'ack' }
  | { readonly kind: 'reply'; readonly payload: string };

/** A request on a node, on parsed arguments. */
export type OxPerform = (view: OxView, subject: PermissionSubject) => OxAnswer;

/** A request of a transaction. */
export interface OxOperation {
  /** Does it again; undefined for what is no operation on nodes and cannot be (`function_of_type_simple_op`). */
  readonly perform: OxPerform | undefined;
  readonly answer: OxAnswer;
}

export function equalOxAnswers(a: OxAnswer, b: OxAnswer): boolean {
  if (a.kind === 'error') return b.kind === 'error' && a.code === b.code;
  if (a.kind === 'reply') return b.kind === 'reply' && a.payload === b.payload;
  return b.kind === 'ack';
}

/**
 * What requests work on (transaction.ml): the store itself for the length of one request, or a copy of it for the length of
 * a transaction. Notes what was changed, in order and with repetitions, and the deepest node above everything that was
 * read and above everything that was changed, by which a commit is judged first.
 */
export class OxView {
  readonly store: OxStore;
  /** The tree and the counts when it began. */
  readonly oldRoot: SnapshotNode;
  readonly oldCounts: OxNodeCounts;
  readonly #resetCount: number;
  /** How many commits the daemon had seen by then. */
  readonly startCount: number;
  readonly changes: OxChange[] = [];
  readonly operations: OxOperation[] = [];
  /** Requests that were answered, also those that are no operations on nodes. */
  requestCount = 0;
  isQuotaReached = false;
  #readTop: SnapshotPath | undefined;
  #changeTop: SnapshotPath | undefined;

  constructor(store: OxStore, startCount: number) {
    this.store = store;
    this.oldRoot = store.root;
    this.oldCounts = store.nodeCounts;
    this.#resetCount = store.resetCount;
    this.startCount = startCount;
  }

  get isReadOnly(): boolean {
    return this.changes.length === 0;
  }

  has(path: SnapshotPath): boolean {
    return nodeAt(this.store.root, path) !== undefined;
  }

  read(subject: PermissionSubject, path: SnapshotPath): SnapshotNode | XenstoreErrorCode {
    const node = this.store.read(subject, path);
    if (typeof node !== 'string') this.#readTop = commonPrefix(path, this.#readTop);
    return node;
  }

  write(subject: PermissionSubject, path: SnapshotPath, value: string): XenstoreErrorCode | undefined {
    const existed = this.has(path);
    const failure = this.store.write(subject, path, value);
    if (failure === undefined) this.#note('write', path, existed ? path : path.slice(0, -1));
    return failure;
  }

  mkdir(subject: PermissionSubject, path: SnapshotPath, isHeard: boolean): XenstoreErrorCode | undefined {
    const failure = this.store.mkdir(subject, path);
    if (failure !== undefined) return failure;
    if (isHeard) this.#note('mkdir', path, path.slice(0, -1));
    else this.#changeTop = commonPrefix(path.slice(0, -1), this.#changeTop);
    return undefined;
  }

  rm(subject: PermissionSubject, path: SnapshotPath): XenstoreErrorCode | undefined {
    const failure = this.store.rm(subject, path);
    if (failure === undefined) this.#note('rm', path, path.slice(0, -1));
    return failure;
  }

  setPermissions(
    subject: PermissionSubject,
    path: SnapshotPath,
    permissions: NodePermissions,
  ): XenstoreErrorCode | undefined {
    const failure = this.store.setPermissions(subject, path, permissions);
    if (failure === undefined) this.#note('setPermissions', path, path);
    return failure;
  }

  /**
   * Puts the changes into `target`: as they are if nobody wrote anything since, merged if nobody wrote at or below what
   * was read and what was changed. False otherwise (`Transaction.commit`).
   */
  commit(target: OxStore): boolean {
    if (target.root === this.oldRoot) {
      if (!this.isReadOnly) {
        target.root = this.store.root;
        target.nodeCounts = this.store.nodeCounts;
      }
      return true;
    }
    const top = this.#changeTop;
    if (!this.#isUntouched(target, this.#readTop) || !this.#isUntouched(target, top)) return false;
    const node = top === undefined ? undefined : nodeAt(this.store.root, top);
    if (top !== undefined && node !== undefined) {
      target.install(top, node, this.oldCounts, this.store.nodeCounts);
    }
    return true;
  }

  /** A path over which the commit failed, for the one who asks why. */
  conflictPath(target: OxStore): SnapshotPath {
    const isReadTouched = !this.#isUntouched(target, this.#readTop);
    return (isReadTouched ? this.#readTop : this.#changeTop) ?? [];
  }

  #isUntouched(target: OxStore, path: SnapshotPath | undefined): boolean {
    const isReset = target.resetCount !== this.#resetCount;
    return isUntouched(this.oldRoot, target.root, path, isReset);
  }

  #note(kind: OxChangeKind, path: SnapshotPath, top: SnapshotPath): void {
    this.changes.push({ kind, path });
    this.#changeTop = commonPrefix(top, this.#changeTop);
  }
}

/** `test_coalesce`: the node is the same version in both trees and all above it have the same permissions. */
function isUntouched(
  oldRoot: SnapshotNode,
  root: SnapshotNode,
  path: SnapshotPath | undefined,
  isReset: boolean,
): boolean {
  if (path === undefined) return true;
  const oldParent = nodeAt(oldRoot, path.slice(0, -1));
  const parent = nodeAt(root, path.slice(0, -1));
  if (oldParent === undefined || parent === undefined) return false;
  const oldNode = nodeAt(oldRoot, path);
  const node = nodeAt(root, path);
  if (oldNode === undefined && node === undefined) return true;
  if (isReset || oldNode === undefined || oldNode !== node) return false;
  for (let depth = 0; depth < path.length; depth++) {
    const above = path.slice(0, depth);
    if (!equalOxPermissions(nodeAt(oldRoot, above)!.permissions, nodeAt(root, above)!.permissions))
      return false;
  }
  return true;
}

function commonPrefix(a: SnapshotPath, b: SnapshotPath | undefined): SnapshotPath {
  if (b === undefined) return a;
  let count = 0;
  while (count < a.length && count < b.length && a[count] === b[count]) count++;
  return a.slice(0, count);
}
