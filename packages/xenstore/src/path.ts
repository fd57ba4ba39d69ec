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
