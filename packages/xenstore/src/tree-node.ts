import type { ByteString } from './byte-string.ts';
import type { NodePermissions } from './permissions.ts';
import type { XenstoreProfile } from './profile.ts';

let emptyList: ChildList | undefined;

/**
 * The names of a node's children, in creation order. Shared between the versions of a node for as long as nobody
 * changes it: a transaction that looks at a node `pin`s the list, and whoever changes a pinned list copies it
 * first. So looking costs nothing, and the copy is made only where a transaction and a change really meet.
 */
export class ChildList {
  readonly #names: Set<string>;
  #size: number;
  #pinned = false;
  #encoded: ByteString | undefined;

  private constructor(names: Set<string>, size: number) {
    this.#names = names;
    this.#size = size;
  }

  /**
   * The list without members; never changed in place. Not a static field: TypeScript 7.0.2 emits its initialiser with a
   * reference to the class that is not set yet.
   */
  static get EMPTY(): ChildList {
    emptyList ??= new ChildList(new Set(), 0);
    return emptyList;
  }

  get count(): number {
    return this.#names.size;
  }

  /** Bytes of the names, each with its NUL. */
  get size(): number {
    return this.#size;
  }

  /** From now on changes are made to copies. */
  pin(): void {
    this.#pinned = true;
  }

  has(name: string): boolean {
    return this.#names.has(name);
  }

  names(): IterableIterator<string> {
    return this.#names.values();
  }

  /** The names, each with its NUL: the payload of a DIRECTORY reply. */
  encoded(): ByteString {
    this.#encoded ??= this.#names.size === 0 ? '' : `${[...this.#names].join('\0')}\0`;
    return this.#encoded;
  }

  /** A list that also has `name` at its end: this one, changed, unless it is pinned. */
  with(name: string): ChildList {
    const list = this.#own();
    list.#names.add(name);
    list.#size += name.length + 1;
    return list;
  }

  without(name: string): ChildList {
    const list = this.#own();
    if (list.#names.delete(name)) list.#size -= name.length + 1;
    return list.#names.size === 0 ? ChildList.EMPTY : list;
  }

  #own(): ChildList {
    const list =
      this.#pinned || this === ChildList.EMPTY ? new ChildList(new Set(this.#names), this.#size) : this;
    list.#encoded = undefined;
    return list;
  }
}

/** One version of a node. A change makes a new version, so that a transaction keeps what it saw. */
export interface TreeNode {
  readonly value: ByteString;
  readonly permissions: NodePermissions;
  readonly children: ChildList;
  /** Bytes that quotas count for it, without its path. Not derived later: `children` may move on with a newer version. */
  readonly size: number;
  /** Set from the store-wide counter at every write; what transactions compare. */
  readonly generation: number;
}

/** Makes a version of a node. */
export function treeNode(
  profile: XenstoreProfile,
  value: ByteString,
  permissions: NodePermissions,
  children: ChildList,
  generation: number,
): TreeNode {
  const size = nodeSize(profile, value.length, permissions.length, children.size);
  return { value, permissions, children, size, generation };
}

export function nodeSize(
  profile: XenstoreProfile,
  valueSize: number,
  permissionCount: number,
  childrenSize: number,
): number {
  return profile.nodeOverheadSize + profile.permissionSize * permissionCount + valueSize + childrenSize;
}
