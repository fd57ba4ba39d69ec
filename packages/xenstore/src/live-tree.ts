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
  /** By domain, the paths whose permission lists name it beside the owner; kept only if asked for. */
  readonly #listed: Map<number, Set<string>> | undefined;
  readonly #domains: DomainTable;
  /** Hears the path of every change, while somebody wants to know. */
  onChange: ((path: string) => void) | undefined;

  /** `indexesLists`: whether `listing` will be asked. */
  constructor(domains: DomainTable, indexesLists: boolean = false) {
    this.#domains = domains;
    this.#listed = indexesLists ? new Map() : undefined;
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
    if (this.#listed !== undefined && old?.permissions !== node.permissions) {
      if (old !== undefined) this.#unlist(path, old);
      this.#list(path, node);
    }
    this.#nodes.set(path, node);
    this.onChange?.(path);
  }

  delete(path: string): void {
    const node = this.#nodes.get(path);
    if (node === undefined) return;
    this.#disown(path, node);
    this.#unlist(path, node);
    this.#nodes.delete(path);
    this.onChange?.(path);
  }

  /** What `owner` would come to with a node of `size` bytes at `path`. */
  memoryWith(path: string, owner: number, size: number): number {
    const old = this.#nodes.get(path);
    const freed = old?.permissions[0].domid === owner ? old.size + path.length : 0;
    return (this.#domains.find(owner)?.memorySize ?? 0) - freed + size + path.length;
  }

  /** Paths whose permission lists name `domid` beside the owner, in no order. */
  listing(domid: number): readonly string[] {
    return [...(this.#listed?.get(domid) ?? [])];
  }

  /** Paths but `/` and special names that `domid` owns and that lie below no other of its nodes, in the order of a walk through the tree. */
  topmostOwned(domid: number): string[] {
    const owned = this.#owned.get(domid);
    if (owned === undefined) return [];
    const wanted = new Map<string, Set<string>>();
    for (const path of owned) {
      if (path.startsWith('/')) mark(wanted, path);
    }
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

  #list(path: string, { permissions }: TreeNode): void {
    for (let i = 1; i < permissions.length; i++) {
      const { domid } = permissions[i]!;
      const paths = this.#listed!.get(domid);
      if (paths === undefined) this.#listed!.set(domid, new Set([path]));
      else paths.add(path);
    }
  }

  #unlist(path: string, { permissions }: TreeNode): void {
    if (this.#listed === undefined) return;
    for (let i = 1; i < permissions.length; i++) {
      const { domid } = permissions[i]!;
      const paths = this.#listed.get(domid);
      if (paths?.delete(path) === true && paths.size === 0) this.#listed.delete(domid);
    }
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
