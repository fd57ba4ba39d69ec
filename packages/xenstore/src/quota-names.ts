import type { AccountItem } from './domain-table.ts';
import type { XenstoreProfile, XenstoreQuotas } from './profile.ts';

/** A quota as administrators know it. */
export interface QuotaEntry {
  readonly name: string;
  readonly key: keyof XenstoreQuotas;
  readonly description: string;
  /** Where the highest value is remembered. */
  readonly item: AccountItem;
}

const C_4_17_HARD: readonly QuotaEntry[] = [
  { name: 'nodes', key: 'nodes', item: 'nodes', description: 'Nodes per domain' },
  { name: 'watches', key: 'watches', item: 'watches', description: 'Watches per domain' },
  { name: 'transactions', key: 'transactions', item: 'transactions', description: 'Transactions per domain' },
  {
    name: 'outstanding',
    key: 'outstanding',
    item: 'outstanding',
    description: 'Outstanding requests per domain',
  },
  {
    name: 'transaction-nodes',
    key: 'transactionNodes',
    item: 'transactionNodes',
    description: 'Max. number of accessed nodes per transaction',
  },
  {
    name: 'memory',
    key: 'memorySize',
    item: 'memorySize',
    description: 'Total Xenstore memory per domain (error level)',
  },
  { name: 'node-size', key: 'nodeSize', item: 'nodeSize', description: 'Max. size of a node' },
  { name: 'path-max', key: 'pathSize', item: 'pathSize', description: 'Max. length of a node path' },
  {
    name: 'permissions',
    key: 'permissions',
    item: 'permissions',
    description: 'Max. number of permissions per node',
  },
];

const C_4_17_SOFT: readonly QuotaEntry[] = [
  {
    name: 'memory',
    key: 'softMemorySize',
    item: 'memorySize',
    description: 'Total Xenstore memory per domain (warning level)',
  },
];

const HEAD_MEMORY = 'Total Xenstore memory per domain';

/** In the order of `enum accitem`. */
const C_HEAD_HARD: readonly QuotaEntry[] = [
  { name: 'nodes', key: 'nodes', item: 'nodes', description: 'Nodes per domain' },
  { name: 'watches', key: 'watches', item: 'watches', description: 'Watches per domain' },
  {
    name: 'outstanding',
    key: 'outstanding',
    item: 'outstanding',
    description: 'Outstanding requests per domain',
  },
  { name: 'memory', key: 'memorySize', item: 'memorySize', description: HEAD_MEMORY },
  {
    name: 'transactions',
    key: 'transactions',
    item: 'transactions',
    description: 'Active transactions per domain',
  },
  {
    name: 'transaction-nodes',
    key: 'transactionNodes',
    item: 'transactionNodes',
    description: 'Max. number of accessed nodes per transaction',
  },
  {
    name: 'node-permissions',
    key: 'permissions',
    item: 'permissions',
    description: 'Max. number of permissions per node',
  },
  { name: 'path-max', key: 'pathSize', item: 'pathSize', description: 'Max. length of a node path' },
  { name: 'node-size', key: 'nodeSize', item: 'nodeSize', description: 'Max. size of a node' },
];

const C_HEAD_SOFT: readonly QuotaEntry[] = [
  { name: 'memory', key: 'softMemorySize', item: 'memorySize', description: HEAD_MEMORY },
];

/** Quotas that refuse, in the order in which the profile lists them. */
export function hardQuotas(profile: XenstoreProfile): readonly QuotaEntry[] {
  return profile.quotasPerDomain ? C_HEAD_HARD : C_4_17_HARD;
}

/** Quotas that only warn. */
export function softQuotas(profile: XenstoreProfile): readonly QuotaEntry[] {
  return profile.quotasPerDomain ? C_HEAD_SOFT : C_4_17_SOFT;
}
