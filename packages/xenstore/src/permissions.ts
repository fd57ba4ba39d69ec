import { DOMID_ANY } from '@virtlab/abi/xen';
import { strtolToU32 } from './c-number.ts';

/** Rights as a mask. The values are those of xenstore_lib.h. */
export const XS_PERM_NONE = 0;
export const XS_PERM_READ = 1;
export const XS_PERM_WRITE = 2;
export const XS_PERM_OWNER = 8;
/** The entry names a domain that was gone at some time since: a later domain of that id inherits nothing. */
export const XS_PERM_IGNORE = 16;
export const XS_PERM_ALL: number = XS_PERM_READ | XS_PERM_WRITE | XS_PERM_OWNER;

/** One entry. Immutable: lists are shared between a node and the nodes created below it. */
export interface NodePermission {
  /** u32 as it came over the wire. */
  readonly domid: number;
  readonly mask: number;
}

/** At least one entry; entry 0 names the owner, and its mask is the default for domains not listed. */
export type NodePermissions = readonly [NodePermission, ...NodePermission[]];

/** Who asks: `target` is a second domain whose rights count too (SET_TARGET). */
export interface PermissionSubject {
  readonly domid: number;
  readonly privileged: boolean;
  readonly target: number | undefined;
}

const LETTERS: readonly string[] = ['n', 'r', 'w', 'b'];

/** Parses the entries of SET_PERMS; undefined (EINVAL) if one is malformed or there is none. */
export function parsePermissions(texts: readonly string[]): NodePermissions | undefined {
  const entries: NodePermission[] = [];
  for (const text of texts) {
    const mask = LETTERS.indexOf(text.charAt(0));
    const domid = mask < 0 || text === '' ? undefined : strtolToU32(text.slice(1));
    if (domid === undefined) return undefined;
    entries.push({ domid, mask });
  }
  const [owner, ...others] = entries;
  return owner === undefined ? undefined : [owner, ...others];
}

/** One entry as it stands in a GET_PERMS reply; the id is printed signed, as the C daemon does. */
export function formatPermission(entry: NodePermission): string {
  return `${LETTERS[entry.mask & (XS_PERM_READ | XS_PERM_WRITE)]!}${entry.domid | 0}`;
}

/**
 * The rights of `subject`. `isCurrent` says whether an entry's domain is still the one that the entry meant, and of
 * DOMID_ANY whether it means everybody.
 * Privileged connections and owners may everything, then the first matching entry decides.
 */
export function permittedMask(
  permissions: NodePermissions,
  subject: PermissionSubject,
  isCurrent: (domid: number) => boolean,
): number {
  if (subject.privileged) return XS_PERM_ALL;
  const owner = permissions[0];
  if (owner.domid === subject.domid || owner.domid === subject.target) return XS_PERM_ALL;
  for (let i = 1; i < permissions.length; i++) {
    const entry = permissions[i]!;
    if (entry.domid !== subject.domid && entry.domid !== subject.target && entry.domid !== DOMID_ANY)
      continue;
    if ((entry.mask & XS_PERM_IGNORE) === 0 && isCurrent(entry.domid)) return entry.mask;
  }
  return owner.mask & XS_PERM_ALL;
}

/** Marks the entries whose domain is gone, so that rewriting the node cannot revive them. Shares if nothing changes. */
export function retirePermissions(
  permissions: NodePermissions,
  isCurrent: (domid: number) => boolean,
): NodePermissions {
  if (permissions.length === 1) return permissions;
  const isStale = (entry: NodePermission): boolean =>
    (entry.mask & XS_PERM_IGNORE) === 0 && !isCurrent(entry.domid);
  const [owner, ...others] = permissions;
  if (!others.some(isStale)) return permissions;
  return [
    owner,
    ...others.map((entry) => (isStale(entry) ? { ...entry, mask: entry.mask | XS_PERM_IGNORE } : entry)),
  ];
}

/** Entry 0 belongs to `domid` from now on. Shares if it does already. */
export function withOwner(permissions: NodePermissions, domid: number): NodePermissions {
  const [owner, ...others] = permissions;
  return owner.domid === domid ? permissions : [{ domid, mask: owner.mask }, ...others];
}

/** Without `domid`: as owner it is replaced by domain 0, other entries disappear (special names at domain death). */
export function withoutDomain(permissions: NodePermissions, domid: number): NodePermissions {
  if (permissions.every((entry) => entry.domid !== domid)) return permissions;
  const [owner, ...others] = permissions;
  return [
    owner.domid === domid ? { domid: 0, mask: owner.mask } : owner,
    ...others.filter((entry) => entry.domid !== domid),
  ];
}
