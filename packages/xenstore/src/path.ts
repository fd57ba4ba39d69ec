/** Node paths (xenstore.txt, "Xenstore path names"). All functions take canonical, absolute paths. */

const NODE_NAME = /^(?:\/|(?:\/[-A-Za-z0-9_@]+)+)$/;
const HOME = /^\/local\/domain\/(?=[-\d]{1,5}\/)-?\d+\//;

/** The directory that relative paths of a domain start from, and what GET_DOMAIN_PATH answers. */
export function homePath(domid: number): string {
  return `/local/domain/${domid}`;
}

/** Relative paths get `home` in front; `/…` and special names `@…` stay. */
export function canonicalPath(home: string, path: string): string {
  return path.startsWith('/') || path.startsWith('@') ? path : `${home}/${path}`;
}

/**
 * Whether `path` may name a node: starts with `/`, no empty component, legal characters, and no longer than
 * `sizeMax` after an initial `/local/domain/<domid>/`.
 */
export function isNodePath(path: string, sizeMax: number): boolean {
  if (!NODE_NAME.test(path)) return false;
  return path.length <= sizeMax || path.length <= (HOME.exec(path)?.[0].length ?? 0) + sizeMax;
}

const SPECIAL_NAME = /^@[-A-Za-z0-9_@]*(?:\/[-A-Za-z0-9_@]+)*$/;

/** Whether `name` may be a special name where these are checked as paths are (C HEAD, `canonicalize`). */
export function isSpecialName(name: string): boolean {
  return SPECIAL_NAME.test(name);
}

/** How many bytes of `path` count against the limit: those behind an initial `/local/domain/<domid>/`. */
export function countedPathSize(path: string): number {
  return path.length - (HOME.exec(path)?.[0].length ?? 0);
}

/** How many levels `path` lies below `ancestor`, which is the path itself or above it. */
export function levelsBelow(path: string, ancestor: string): number {
  if (path === ancestor) return 0;
  let count = ancestor === '/' ? 1 : 0;
  for (let at = path.indexOf('/', ancestor.length); at >= 0; at = path.indexOf('/', at + 1)) count += 1;
  return count;
}

/** Whether `path` may name a node, however long it is. */
export function isNodeName(path: string): boolean {
  return NODE_NAME.test(path);
}

/** The parent of any path but `/`, whose parent is itself. */
export function parentPath(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash <= 0 ? '/' : path.slice(0, slash);
}

/** The last component. */
export function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

export function childPath(parent: string, name: string): string {
  return parent === '/' ? `/${name}` : `${parent}/${name}`;
}
