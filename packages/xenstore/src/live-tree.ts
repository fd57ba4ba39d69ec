import { type DomainTable, isUnprivilegedDomain } from './domain-table.ts';
import { childPath } from './path.ts';
import type { ChildList, TreeNode } from './tree-node.ts';

/**
 * The committed nodes by path, and who pays for them. A path is one hash look-up; a node costs its path, a small
 * record and its value. Nodes of unprivileged owners are also indexed by owner, so that the death of a domain
 * visits its nodes and not the store.
 */
export class LiveTree {
  readonly #nodes = new Map<string, TreeNode>();
  readonly #owned = new Map<number, Set<string>>();
  readonly #domains: DomainTable;

  constructor(domains: DomainTable) {
    this.#domains = domains;
  }

  get count(): number {
    return this.#nodes.size;
  }

  get(path: string): TreeNode | undefined {
    return this.#nodes.get(path);
  }

  paths(): IterableIterator<string> {
    return this.#nodes.keys();
  }

  set(path: string, node: TreeNode): void {
    const old = this.#nodes.get(path);
    const owner = node.permissions[0].domid;
    const oldOwner = old?.permissions[0].domid;
    if (old !== undefined && oldOwner !== owner) this.#disown(path, old);
    const record = this.#domains.get(owner);
    if (old !== undefined && oldOwner === owner) {
      record.memorySize += node.size - old.size;
    } else {
      record.nodeCount += 1;
      record.memorySize += node.size + path.length;
      if (isUnprivilegedDomain(owner)) this.#ownedBy(owner).add(path);
    }
    this.#nodes.set(path, node);
  }

  delete(path: string): void {
    const node = this.#nodes.get(path);
    if (node === undefined) return;
    this.#disown(path, node);
    this.#nodes.delete(path);
  }

  /** Whether `owner` would reach its hard memory limit with a node of `size` bytes at `path`. */
  exceedsMemory(path: string, owner: number, size: number, memorySizeMax: number): boolean {
    if (!isUnprivilegedDomain(owner)) return false;
    const old = this.#nodes.get(path);
    const freed = old?.permissions[0].domid === owner ? old.size + path.length : 0;
    return this.#domains.get(owner).memorySize - freed + size + path.length >= memorySizeMax;
  }

  /** Paths but `/` that `domid` owns and that lie below no other of its nodes, in the order of a walk through the tree. */
  topmostOwned(domid: number): string[] {
    const owned = this.#owned.get(domid);
    if (owned === undefined) return [];
    const wanted = new Map<string, Set<string>>();
    for (const path of owned) mark(wanted, path);
    const found: string[] = [];
    const visit = (path: string): void => {
      if (path !== '/' && owned.has(path)) {
        found.push(path);
        return;
      }
      const below = wanted.get(path);
      if (below === undefined) return;
      for (const name of inOrder(below, this.#nodes.get(path)!.children)) visit(childPath(path, name));
    };
    visit('/');
    return found;
  }

  #ownedBy(domid: number): Set<string> {
    let paths = this.#owned.get(domid);
    if (paths === undefined) {
      paths = new Set();
      this.#owned.set(domid, paths);
    }
    return paths;
  }

  #disown(path: string, node: TreeNode): void {
    const owner = node.permissions[0].domid;
    const record = this.#domains.get(owner);
    record.nodeCount -= 1;
    record.memorySize -= node.size + path.length;
    const paths = this.#owned.get(owner);
    if (paths?.delete(path) === true && paths.size === 0) this.#owned.delete(owner);
  }
}

/** Adds to `wanted` every directory on the way to `path`, with the name that leads on. */
function mark(wanted: Map<string, Set<string>>, path: string): void {
  let directory = '/';
  for (let start = 1; start < path.length;) {
    const slash = path.indexOf('/', start);
    const end = slash < 0 ? path.length : slash;
    const names = wanted.get(directory);
    const name = path.slice(start, end);
    if (names === undefined) wanted.set(directory, new Set([name]));
    else names.add(name);
    directory = path.slice(0, end);
    start = end + 1;
  }
}

function inOrder(names: ReadonlySet<string>, children: ChildList): Iterable<string> {
  if (names.size === 1) return names;
  return [...children.names()].filter((name) => names.has(name));
}
