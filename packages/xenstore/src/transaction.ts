import type { DomainRecord } from './domain-table.ts';
import type { TreeNode } from './tree-node.ts';

/** Generation recorded for a node that was not there. No node ever has it. */
const NO_GENERATION = -1;

/** One node as the transaction sees it. */
export interface AccessedNode {
  readonly path: string;
  /** The committed version at the first access; the event's permissions are judged by it too. */
  readonly original: TreeNode | undefined;
  /** The transaction's own version; undefined: not there, or removed. */
  node: TreeNode | undefined;
  modified: boolean;
  /** It can be read, but goes at the end, and its parent does not know: a removal stopped at it. */
  lost: boolean;
  /** Event to fire at commit: for this node and above only (`exact`), or for the subtree. */
  event: 'none' | 'exact' | 'subtree';
}

/**
 * The private view of one transaction: every node it touched, in the order of the first access, and nothing else.
 * Starting one costs the same in any tree. As in the C daemon a node is captured when it is first touched, not when
 * the transaction starts; from then on it does not change under the transaction, and whether it changed outside
 * decides at the end.
 */
export class Transaction {
  readonly id: number;
  /** A node was created: node quotas are checked at the end. */
  nodeCreated = false;
  /** Something in it went wrong that cannot be undone; it can only be abandoned. */
  failed = false;
  readonly #accessed = new Map<string, AccessedNode>();
  readonly #nodeCountDelta = new Map<number, number>();
  readonly #payer: DomainRecord;
  readonly #prefixSize: number;
  #memorySize = 0;

  /**
   * `payer` is charged for what the transaction reads and writes until it ends. `generation` is the store's when it
   * started; its digits stand in front of the path in the daemon's own copy, and are paid for.
   */
  constructor(id: number, payer: DomainRecord, generation: number = 0) {
    this.id = id;
    this.#payer = payer;
    this.#prefixSize = `${generation}/`.length;
  }

  get accessedCount(): number {
    return this.#accessed.size;
  }

  /** Touched nodes in the order of their first access. */
  accessed(): IterableIterator<AccessedNode> {
    return this.#accessed.values();
  }

  find(path: string): AccessedNode | undefined {
    return this.#accessed.get(path);
  }

  /** First access: remembers the committed version. */
  capture(path: string, node: TreeNode | undefined): AccessedNode {
    node?.children.pin();
    this.#charge(this.#cost(path, node));
    const accessed: AccessedNode = {
      path,
      original: node,
      node,
      modified: false,
      lost: false,
      event: 'none',
    };
    this.#accessed.set(path, accessed);
    return accessed;
  }

  /** The transaction's version of a captured node. */
  put(path: string, node: TreeNode | undefined): void {
    const accessed = this.#captured(path);
    this.#charge(this.#cost(path, node) - this.#cost(path, accessed.node));
    accessed.node = node;
    accessed.modified = true;
    accessed.lost = false;
  }

  /** A removal got as far as this node and failed. */
  lose(path: string): void {
    const accessed = this.#captured(path);
    accessed.modified = true;
    accessed.lost = true;
  }

  /** What the payer would come to if this version of `path` had `size` bytes. */
  memoryWith(path: string, size: number): number {
    const cost = this.#prefixSize + path.length + size;
    return this.#payer.memorySize - this.#cost(path, this.#accessed.get(path)?.node) + cost;
  }

  /** Asks for an event at commit. A subtree event replaces an exact one, never the reverse. */
  queueEvent(path: string, exact: boolean): void {
    const accessed = this.#captured(path);
    if (accessed.event !== 'subtree') accessed.event = exact ? 'exact' : 'subtree';
  }

  countNode(domid: number, delta: number): void {
    this.#nodeCountDelta.set(domid, (this.#nodeCountDelta.get(domid) ?? 0) + delta);
  }

  nodeCountDeltas(): ReadonlyMap<number, number> {
    return this.#nodeCountDelta;
  }

  /** As they are now, for `restoreCounts`. */
  copyOfCounts(): ReadonlyMap<number, number> {
    return new Map(this.#nodeCountDelta);
  }

  restoreCounts(counts: ReadonlyMap<number, number>): void {
    this.#nodeCountDelta.clear();
    for (const [domid, delta] of counts) this.#nodeCountDelta.set(domid, delta);
  }

  /** First node that is not as it was when the transaction touched it. */
  conflict(current: (path: string) => TreeNode | undefined): AccessedNode | undefined {
    for (const accessed of this.#accessed.values()) {
      const generation = current(accessed.path)?.generation ?? NO_GENERATION;
      if (generation !== (accessed.original?.generation ?? NO_GENERATION)) return accessed;
    }
    return undefined;
  }

  /** Gives back what was charged. */
  end(): void {
    this.#charge(-this.#memorySize);
  }

  #cost(path: string, node: TreeNode | undefined): number {
    return node === undefined ? 0 : this.#prefixSize + path.length + node.size;
  }

  #charge(size: number): void {
    this.#memorySize += size;
    this.#payer.memorySize += size;
  }

  #captured(path: string): AccessedNode {
    const accessed = this.#accessed.get(path);
    if (accessed === undefined)
      throw new Error(`Transaction ${this.id} changes ${path} without having read it`);
    return accessed;
  }
}
