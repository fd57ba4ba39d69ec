import { XS_INTRODUCE_DOMAIN, XS_RELEASE_DOMAIN } from '@virtlab/abi/xs-wire';
import type { ByteString } from './byte-string.ts';
import type { XenstoreErrorCode } from './errors.ts';
import type { FoundNode } from './node-engine.ts';
import { childPath } from './path.ts';
import { type NodePermissions, XS_PERM_IGNORE, XS_PERM_READ, XS_PERM_WRITE } from './permissions.ts';

/** One permission as a dump has it. */
export interface ImagePermission {
  readonly domid: number;
  readonly access: 'n' | 'r' | 'w' | 'b';
  /** Its domain is gone: it has no effect, also for a later domain of that id. */
  readonly isStale: boolean;
}

/** A node as a dump has it; or a special name, whose permissions are all it has. */
export interface ImageNode {
  readonly path: string;
  readonly value: ByteString;
  /** At least one; entry 0 is the owner's. */
  readonly permissions: readonly ImagePermission[];
}

/** Nodes, parents before their children, children in the order of the daemon. */
export type StoreImage = readonly ImageNode[];

/** A dump that cannot be read, or that the store refuses. The message names the record and its offset. */
export class DumpError extends Error {
  override readonly name = 'DumpError';
}

/** Names that have permissions and no place in the tree, in the order of the C daemon's dump. */
export const SPECIAL_NAMES: readonly string[] = [XS_RELEASE_DOMAIN, XS_INTRODUCE_DOMAIN];

const LETTERS: readonly ImagePermission['access'][] = ['n', 'r', 'w', 'b'];

/** What saving needs of a store. */
export interface ImageSource {
  find(path: string): FoundNode | undefined;
  /** Permissions of a special name that is no node. */
  specialPermissions(name: string): NodePermissions | undefined;
  /** Whether an entry of that domain in a node of that generation still means the domain. */
  isCurrent(domid: number, generation: number): boolean;
}

/** Everything in a store, as it is now. */
export function saveImage(source: ImageSource): StoreImage {
  const image: ImageNode[] = [];
  for (const name of SPECIAL_NAMES) {
    const permissions = source.find(name)?.permissions ?? source.specialPermissions(name);
    if (permissions === undefined) continue;
    const node = { value: '', permissions, generation: 0 };
    image.push({ path: name, value: '', permissions: imagePermissions(source, node) });
  }
  const waiting = ['/'];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    const node = source.find(path);
    if (node === undefined) continue;
    // oxenstored has the special names below `/`; a dump has them the other daemons' way, which came first.
    if (!SPECIAL_NAMES.includes(path.slice(1)))
      image.push({ path, value: node.value, permissions: imagePermissions(source, node) });
    for (const name of [...node.children.names()].toReversed()) waiting.push(childPath(path, name));
  }
  return image;
}

function imagePermissions(
  source: ImageSource,
  { permissions, generation }: Pick<FoundNode, 'permissions' | 'generation'>,
): ImagePermission[] {
  return permissions.map(({ domid, mask }, index) => ({
    domid,
    access: LETTERS[mask & (XS_PERM_READ | XS_PERM_WRITE)]!,
    isStale:
      (mask & XS_PERM_IGNORE) !== 0 || (index > 0 && generation > 0 && !source.isCurrent(domid, generation)),
  }));
}

/** What loading needs of a store; errors are what the daemon would answer domain 0. */
export interface ImageTarget {
  children(path: string): readonly string[];
  rm(path: string): XenstoreErrorCode | undefined;
  write(path: string, value: ByteString): XenstoreErrorCode | undefined;
  mkdir(path: string): XenstoreErrorCode | undefined;
  setPermissions(path: string, entries: readonly string[]): XenstoreErrorCode | undefined;
}

/**
 * Replaces everything in a store that nobody is connected to. Stale permissions, which have no effect, are left out,
 * but for an owner's. Throws `DumpError` at the first node that the store refuses; it must not be used then.
 */
export function loadImage(target: ImageTarget, image: StoreImage): void {
  for (const name of target.children('/')) {
    if (!SPECIAL_NAMES.includes(name)) check(target.rm(`/${name}`), 0, `/${name}`);
  }
  for (const [index, { path, value, permissions }] of image.entries()) {
    const isSpecial = SPECIAL_NAMES.includes(path);
    if (!isSpecial) {
      const failure = value === '' && path !== '/' ? target.mkdir(path) : target.write(path, value);
      check(failure, index + 1, path);
    }
    const entries = permissions
      .filter(({ isStale }, place) => place === 0 || !isStale)
      .map(({ access, domid }) => `${access}${domid}`);
    check(target.setPermissions(path, entries), index + 1, path);
  }
}

function check(failure: XenstoreErrorCode | undefined, number: number, path: string): void {
  if (failure !== undefined) throw new DumpError(`The store refuses node ${number}, ${path}: ${failure}`);
}
