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
  /** Every name, where one is there twice; `#names` then stands still. */
  #repeating: string[] | undefined;
  #size: number;
  #pinned = false;
  #encoded: ByteString | undefined;

  private constructor(names: Set<string>, size: number, repeating?: readonly string[]) {
    this.#names = names;
    this.#size = size;
    if (repeating !== undefined) this.#repeating = [...repeating];
  }

  /** A list of these names. */
  static of(names: readonly string[]): ChildList {
    let list = ChildList.EMPTY;
    for (const name of names) list = list.with(name);
    return list;
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
    return this.#repeating?.length ?? this.#names.size;
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
    return this.#repeating?.includes(name) ?? this.#names.has(name);
  }

  names(): IterableIterator<string> {
    return (this.#repeating ?? this.#names).values();
  }

  /** The names, each with its NUL: the payload of a DIRECTORY reply. */
  encoded(): ByteString {
    this.#encoded ??= this.count === 0 ? '' : `${[...this.names()].join('\0')}\0`;
    return this.#encoded;
  }

  /**
   * A list that also has `name` at its end: this one, changed, unless it is pinned. A name that is there already is
   * there twice then, as in the daemon: in a transaction whose parent is older than the child's removal (`add_child`).
   */
  with(name: string): ChildList {
    const list = this.#own();
    const before = list.#names.size;
    if (list.#repeating !== undefined) list.#repeating.push(name);
    else if (list.#names.add(name).size === before) list.#repeating = [...list.#names, name];
    list.#size += name.length + 1;
    return list;
  }

  /** A list with one `name` less, the first. */
  without(name: string): ChildList {
    const list = this.#own();
    if (list.#take(name)) list.#size -= name.length + 1;
    return list.count === 0 ? ChildList.EMPTY : list;
  }

  #take(name: string): boolean {
    if (this.#repeating === undefined) return this.#names.delete(name);
    const index = this.#repeating.indexOf(name);
    if (index >= 0) this.#repeating.splice(index, 1);
    return index >= 0;
  }

  #own(): ChildList {
    const list =
      this.#pinned || this === ChildList.EMPTY
        ? new ChildList(new Set(this.#names), this.#size, this.#repeating)
        : this;
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
