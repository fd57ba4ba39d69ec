import type { NodePermissions, NodePermission, PermissionSubject } from './permissions.ts';
import { XS_PERM_READ, XS_PERM_WRITE } from './permissions.ts';
import { oxInteger, oxUnsigned } from './ox-number.ts';

export type OxRight = typeof XS_PERM_READ | typeof XS_PERM_WRITE;

const LETTERS: readonly string[] = ['n', 'r', 'w', 'b'];

/** `Perms.Node.of_strings`: undefined (EINVAL) if an entry is malformed or there is none. */
export function parseOxPermissions(texts: readonly string[]): NodePermissions | undefined {
  const entries: NodePermission[] = [];
  for (const text of texts) {
    const mask = LETTERS.indexOf(text.charAt(0));
    const domid = mask < 0 || text === '' ? undefined : oxInteger(text.slice(1));
    if (domid === undefined) return undefined;
    entries.push({ domid, mask });
  }
  const [owner, ...others] = entries;
  return owner === undefined ? undefined : [owner, ...others];
}

export function formatOxPermission({ mask, domid }: NodePermission): string {
  return `${LETTERS[mask & (XS_PERM_READ | XS_PERM_WRITE)]!}${oxUnsigned(domid)}`;
}

/** Socket clients, domain 0, and who has domain 0 for its target (`Perms.Connection.is_dom0`). */
export function isOxDomain0(subject: PermissionSubject): boolean {
  return subject.privileged || subject.domid === 0 || subject.target === 0;
}

export function isOxOwner(subject: PermissionSubject, permissions: NodePermissions): boolean {
  const owner = permissions[0].domid;
  return isOxDomain0(subject) || owner === subject.domid || owner === subject.target;
}

/** `Perms.has`: the subject, or its target, has the right as owner, by its first entry, or by default. */
export function oxPermits(permissions: NodePermissions, subject: PermissionSubject, right: OxRight): boolean {
  if (isOxOwner(subject, permissions)) return true;
  const allows = (domid: number): boolean => {
    let { mask } = permissions[0];
    for (let index = 1; index < permissions.length; index++) {
      if (permissions[index]!.domid !== domid) continue;
      ({ mask } = permissions[index]!);
      break;
    }
    return (mask & right) !== 0;
  };
  return allows(subject.domid) || (subject.target !== undefined && allows(subject.target));
}

export function equalOxPermissions(a: NodePermissions, b: NodePermissions): boolean {
  if (a === b) return true;
  return (
    a.length === b.length &&
    a.every(({ domid, mask }, index) => domid === b[index]!.domid && mask === b[index]!.mask)
  );
}
