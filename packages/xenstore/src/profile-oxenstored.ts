import { XENSTORE_SERVER_FEATURE_RECONNECTION } from '@virtlab/abi/xs-wire';
import { PROFILE_C_4_17 } from './profile-c-4-17.ts';
import type { XenstoreProfile } from './profile.ts';

/**
 * The daemon in OCaml of Xen 4.17, with the configuration file that comes with it. Its engine has its own rules for
 * nodes, watches and transactions; of the other fields those count that differ here.
 */
export const PROFILE_OXENSTORED: XenstoreProfile = Object.freeze({
  ...PROFILE_C_4_17,
  name: 'oxenstored',
  engine: 'oxenstored',
  quotas: Object.freeze({
    nodes: 1000,
    watches: 100,
    transactions: 10,
    outstanding: 1024,
    transactionNodes: Infinity,
    memorySize: Infinity,
    softMemorySize: Infinity,
    nodeSize: 2048,
    pathSize: 1024,
    permissions: Infinity,
    transactionRequests: 1024,
    watchEvents: 1024,
  }),
  watchQuotaError: 'EQUOTA',
  transactionQuotaError: 'EQUOTA',
  nodeOverheadSize: 0,
  permissionSize: 0,
  badString: Object.freeze({ emptyPayload: 'EINVAL', reading: 'EINVAL', changing: 'EINVAL' }),
  initialNodes: Object.freeze(['@introduceDomain', '@releaseDomain', '/local', '/tool', '/tool/xenstored']),
  initialValues: Object.freeze({ '/tool/xenstored': '/usr/lib/xen-4.17/bin/oxenstored' }),
  longRequests: 'truncate',
  emptyRequestsWait: true,
  largeReplies: 'refused-on-rings',
  mergesEvents: false,
  watchesLeaveTransactions: true,
  serverFeatures: XENSTORE_SERVER_FEATURE_RECONNECTION,
  ringSurvivesIntroduce: true,
  ringErrors: 'if-offered',
  limitsWriteRate: false,
  watchEventTimeoutMs: 0,
  specialNames: 'nodes',
});
