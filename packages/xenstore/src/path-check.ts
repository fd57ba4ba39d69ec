import { countedPathSize, isNodeName, isSpecialName } from './path.ts';
import type { XenstoreProfile } from './profile.ts';
import type { QuotaGate } from './quota-gate.ts';
import { exceedsQuota } from './quota-rules.ts';
import type { StoreConnection } from './store-connection.ts';

/**
 * Whether the connection may use `path`, canonical, as a name of a node. Special names are names of nodes where the
 * profile says so. Being too long is a quota's matter.
 */
export function isAcceptablePath(
  profile: XenstoreProfile,
  gate: QuotaGate,
  connection: StoreConnection,
  path: string,
): boolean {
  const isSpecial = path.startsWith('@');
  if (isSpecial ? profile.specialNames !== 'nodes' || !isSpecialName(path) : !isNodeName(path)) return false;
  const { domain, domid, privileged } = connection;
  const { quotas } = domain;
  const isLimited = profile.pathLimit === 'everybody' || !privileged;
  const size = path.length > quotas.pathSize || profile.quotasPerDomain ? countedPathSize(path) : path.length;
  const isLong = isLimited && exceedsQuota(profile, quotas, 'pathSize', size);
  if (!isLong && !privileged) domain.see('pathSize', size);
  return !gate.refuses('path-max', domid, path, isLong, size, quotas.pathSize);
}
