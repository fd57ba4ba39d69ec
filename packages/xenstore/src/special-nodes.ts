import {
  XENSTORE_SERVER_FEATURE_DOMID_ANY,
  XS_INTRODUCE_DOMAIN,
  XS_RELEASE_DOMAIN,
} from '@virtlab/abi/xs-wire';
import { DOMID_ANY } from '@virtlab/abi/xen';
import type { LiveTree } from './live-tree.ts';
import { type NodePermissions, XS_PERM_NONE, XS_PERM_READ, withOwner, withoutDomain } from './permissions.ts';
import type { XenstoreProfile } from './profile.ts';
import { treeNode } from './tree-node.ts';

const OWN: NodePermissions = [{ domid: 0, mask: XS_PERM_NONE }];

/** Nodes that exist from the start, parents first, with their permissions (`setup_structure`). */
export function initialNodes(profile: XenstoreProfile): [path: string, permissions: NodePermissions][] {
  const nodes: [string, NodePermissions][] = ['/', ...profile.initialNodes].map((path) => [path, OWN]);
  if (profile.specialNames === 'nodes') {
    const forAll = (profile.serverFeatures & XENSTORE_SERVER_FEATURE_DOMID_ANY) !== 0;
    const everybody = { domid: DOMID_ANY, mask: XS_PERM_READ };
    nodes.push([XS_RELEASE_DOMAIN, forAll ? [OWN[0], everybody] : OWN], [XS_INTRODUCE_DOMAIN, OWN]);
  }
  return nodes;
}

/**
 * The nodes' permissions no longer mention `domid`, whose own nodes are gone already: where the profile removes the
 * entries, and otherwise only where it owns what cannot go, `/` and the special names, which fall to domain 0.
 * Generations stay (`domain_tree_remove`).
 */
export function forgetDomain(profile: XenstoreProfile, tree: LiveTree, domid: number): void {
  const removes = profile.deadPermissions === 'removed';
  const listing = removes ? tree.listing(domid) : [];
  for (const path of new Set(['/', XS_RELEASE_DOMAIN, XS_INTRODUCE_DOMAIN, ...listing])) {
    const node = tree.get(path);
    if (node === undefined) continue;
    const { children, generation, permissions, value } = node;
    const left = removes ? withoutDomain(permissions, domid) : withoutOwner(permissions, domid);
    if (left === permissions) continue;
    tree.set(path, treeNode(profile, value, left, children, generation));
  }
}

/** Domain 0 instead of `domid` as the owner. Shares if that changes nothing. */
function withoutOwner(permissions: NodePermissions, domid: number): NodePermissions {
  return permissions[0].domid === domid ? withOwner(permissions, 0) : permissions;
}
