import type { CountedQuota, XenstoreProfile, XenstoreQuotas } from './profile.ts';

/** Whether having `used` of them, the new one included, is more than the daemon allows. */
export function exceedsQuota(
  profile: XenstoreProfile,
  quotas: XenstoreQuotas,
  quota: CountedQuota,
  used: number,
): boolean {
  const limit = quotas[quota];
  if (limit === 0 && profile.zeroQuotaDisables) return false;
  return used > limit + profile.quotaSlack[quota];
}

/** The same at the end of a transaction, for nodes: every version checks with `>=` there (`transaction_fix_domains`). */
export function exceedsNodesAtEnd(profile: XenstoreProfile, quotas: XenstoreQuotas, used: number): boolean {
  if (quotas.nodes === 0 && profile.zeroQuotaDisables) return false;
  return used >= quotas.nodes;
}

/** A node of `size` bytes is too large for a guest. */
export function exceedsNodeSize(profile: XenstoreProfile, quotas: XenstoreQuotas, size: number): boolean {
  if (quotas.nodeSize === 0 && profile.zeroQuotaDisables) return false;
  return size >= quotas.nodeSize;
}

/** Memory is at its hard limit; 0 is no limit in every version. */
export function exceedsMemory(quotas: XenstoreQuotas, used: number): boolean {
  return quotas.memorySize !== 0 && used >= quotas.memorySize;
}

/** No request of the domain is read (`domain_can_read`). */
export function exceedsOutstanding(profile: XenstoreProfile, quotas: XenstoreQuotas, used: number): boolean {
  if (quotas.outstanding === 0 && profile.zeroQuotaDisables) return false;
  return used >= quotas.outstanding;
}
