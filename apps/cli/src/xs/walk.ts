import type { XenstorePermission } from '@virtlab/xenstore';
import { type XenstoreClient, XenstoreError } from '@virtlab/xenstore/node/client';
import { XsFailure, orFail } from './session.ts';

/** A node on the way through a tree. */
export interface WalkedNode {
  readonly path: string;
  readonly name: string;
  /** 0 for the children of the root of the walk. */
  readonly depth: number;
  readonly isLastChild: boolean;
  /** undefined if it could not be read. */
  readonly value: Uint8Array | undefined;
  /** undefined if they were not asked for, or could not be read. */
  readonly permissions: readonly XenstorePermission[] | undefined;
}

export interface WalkOptions {
  readonly permissions: boolean;
  /** Nodes of at most this depth. Default: all. */
  readonly depthMax?: number;
}

/** What is known of a node. `children` is the error when they could not be listed. */
interface Look {
  readonly value: Uint8Array | undefined;
  readonly permissions: readonly XenstorePermission[] | undefined;
  readonly children: readonly string[] | XenstoreError;
}

/** One directory that the walk is in: how far it came, and what it asked for ahead. */
interface Level {
  readonly path: string;
  readonly names: readonly string[];
  readonly ahead: Promise<Look>[];
  next: number;
}

/** Siblings that are asked for before they are needed: round trips overlap. */
const AHEAD_COUNT = 32;

/**
 * Everything below `root`, a parent before its children, siblings in the daemon's order. Not a snapshot: a node that
 * disappears meanwhile has no value and no children. Throws `XsFailure` when a directory cannot be listed.
 */
export async function* walk(
  store: XenstoreClient,
  root: string,
  options: WalkOptions,
): AsyncGenerator<WalkedNode, void> {
  const { depthMax = Number.POSITIVE_INFINITY } = options;
  const levels = [levelOf(root, await orFail(store.directory(root), `xs_directory (${root})`))];
  for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
    const name = level.names[level.next];
    if (name === undefined || levels.length - 1 > depthMax) {
      levels.pop();
      continue;
    }
    askAhead(store, level, options);
    level.next += 1;
    const { value, permissions, children } = await level.ahead.shift()!;
    const path = childPath(level.path, name);
    const isLastChild = level.next === level.names.length;
    yield { path, name, depth: levels.length - 1, isLastChild, value, permissions };
    if (!(children instanceof XenstoreError)) levels.push(levelOf(path, children));
    else if (children.code !== 'ENOENT') throw new XsFailure(`xs_directory (${path})`, children);
  }
}

function levelOf(path: string, names: readonly string[]): Level {
  return { path, names, ahead: [], next: 0 };
}

function askAhead(store: XenstoreClient, level: Level, options: WalkOptions): void {
  const end = Math.min(level.next + AHEAD_COUNT, level.names.length);
  for (let at = level.next + level.ahead.length; at < end; at++) {
    level.ahead.push(look(store, childPath(level.path, level.names[at]!), options));
  }
}

async function look(store: XenstoreClient, path: string, { permissions }: WalkOptions): Promise<Look> {
  const [value, entries, children] = await Promise.all([
    store.read(path).catch(() => undefined),
    permissions ? store.getPermissions(path).catch(() => undefined) : undefined,
    store.directory(path).catch((error: unknown) => {
      if (error instanceof XenstoreError) return error;
      throw error;
    }),
  ]);
  return { value, permissions: entries, children };
}

function childPath(path: string, name: string): string {
  return path.endsWith('/') ? `${path}${name}` : `${path}/${name}`;
}
