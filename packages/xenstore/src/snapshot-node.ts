import type { ByteString } from './byte-string.ts';
import type { NodePermissions } from './permissions.ts';
import { SnapshotMap } from './snapshot-map.ts';

const NO_CHILDREN: SnapshotMap<SnapshotNode> = SnapshotMap.empty();

/** The components of a path; none for `/`. The special names are one component each, `@` and all. */
export type SnapshotPath = readonly string[];

/**
 * One immutable version of a node with everything below it. A root is therefore a snapshot of a whole tree: taking one
 * copies a reference, changing a node makes new versions of it and of its ancestors. Two versions are the same object if
 * and only if nothing was written to the node or below (an equal value written to the node itself counts as nothing,
 * but makes new ancestors): oxenstored's transactions are judged by that.
 */
export class SnapshotNode {
  readonly value: ByteString;
  readonly permissions: NodePermissions;
  readonly children: SnapshotMap<SnapshotNode>;
  /** Nodes of this tree, this one included. */
  readonly count: number;

  constructor(
    value: ByteString,
    permissions: NodePermissions,
    children: SnapshotMap<SnapshotNode>,
    count: number,
  ) {
    this.value = value;
    this.permissions = permissions;
    this.children = children;
    this.count = count;
  }

  static leaf(value: ByteString, permissions: NodePermissions): SnapshotNode {
    return new SnapshotNode(value, permissions, NO_CHILDREN, 1);
  }

  /** This node itself if it has the value already. */
  withValue(value: ByteString): SnapshotNode {
    return value === this.value ? this : new SnapshotNode(value, this.permissions, this.children, this.count);
  }

  withPermissions(permissions: NodePermissions): SnapshotNode {
    return new SnapshotNode(this.value, permissions, this.children, this.count);
  }

  /** Always another version, even with the same child. */
  withChild(name: string, child: SnapshotNode): SnapshotNode {
    const count = this.count - (this.children.get(name)?.count ?? 0) + child.count;
    return new SnapshotNode(this.value, this.permissions, this.children.set(name, child), count);
  }

  withoutChild(name: string): SnapshotNode {
    const count = this.count - (this.children.get(name)?.count ?? 0);
    return new SnapshotNode(this.value, this.permissions, this.children.delete(name), count);
  }

  withoutChildren(): SnapshotNode {
    return new SnapshotNode(this.value, this.permissions, NO_CHILDREN, 1);
  }
}

export function nodeAt(root: SnapshotNode, path: SnapshotPath): SnapshotNode | undefined {
  let node: SnapshotNode | undefined = root;
  for (let depth = 0; depth < path.length && node !== undefined; depth++) {
    node = node.children.get(path[depth]!);
  }
  return node;
}

/** The deepest node on the way to `path` that exists, and whether it is the one of `path`. */
export function deepestNode(
  root: SnapshotNode,
  path: SnapshotPath,
): { node: SnapshotNode; isWhole: boolean } {
  let node = root;
  for (const name of path) {
    const child = node.children.get(name);
    if (child === undefined) return { node, isWhole: false };
    node = child;
  }
  return { node, isWhole: true };
}

/**
 * The tree with the parent of `path`, which must exist, replaced by what `change` makes of it. `path` is not `/`.
 */
export function withParentChanged(
  root: SnapshotNode,
  path: SnapshotPath,
  change: (parent: SnapshotNode, name: string) => SnapshotNode,
): SnapshotNode {
  const step = (node: SnapshotNode, depth: number): SnapshotNode => {
    const name = path[depth]!;
    if (depth === path.length - 1) return change(node, name);
    return node.withChild(name, step(node.children.get(name)!, depth + 1));
  };
  return step(root, 0);
}

/** The tree with `node` at `path`, whose parent must exist. */
export function withNodeAt(root: SnapshotNode, path: SnapshotPath, node: SnapshotNode): SnapshotNode {
  if (path.length === 0) return node;
  return withParentChanged(root, path, (parent, name) => parent.withChild(name, node));
}

/** Every node of the tree, parents before children, children in the order of their names. */
export function* walkSnapshot(
  node: SnapshotNode,
  path: SnapshotPath = [],
): IterableIterator<readonly [path: SnapshotPath, node: SnapshotNode]> {
  yield [path, node];
  for (const [name, child] of node.children.entries()) yield* walkSnapshot(child, [...path, name]);
}

export function snapshotPathText(path: SnapshotPath): string {
  return `/${path.join('/')}`;
}
