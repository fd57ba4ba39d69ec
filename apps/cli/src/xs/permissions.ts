import type { XenstorePermission } from '@virtlab/xenstore';
import { XsFailure } from './session.ts';

const ENTRY = /^([nrwb])(-?\d{1,10})$/;

/** Entries such as `n0` or `r5`. Throws `XsFailure` for anything else. */
export function parsePermissions(texts: readonly string[]): XenstorePermission[] {
  return texts.map((text) => {
    const [, access, domid] = ENTRY.exec(text) ?? [];
    if (access === undefined) throw new XsFailure(`Invalid permission specification: '${text}'`);
    return { access: access as XenstorePermission['access'], domid: Number(domid) };
  });
}

/** An entry as xenstore-ls prints it: the domain id is signed. */
export function formatPermission({ access, domid }: XenstorePermission): string {
  return `${access}${domid | 0}`;
}

/** `  (n0,r5)`. */
export function formatPermissions(permissions: readonly XenstorePermission[]): string {
  return `  (${permissions.map(formatPermission).join(',')})`;
}
