import {
  XENSTORE_SERVER_FEATURE_DOMID_ANY,
  XENSTORE_SERVER_FEATURE_ERROR,
  XENSTORE_SERVER_FEATURE_WATCHDEPTH,
  XS_SET_QUOTA,
} from '@virtlab/abi/xs-wire';
import { PROFILE_C_4_17 } from './profile-c-4-17.ts';
import type { XenstoreProfile } from './profile.ts';

/** The C daemon of Xen after 4.22: GET_FEATURE to SET_QUOTA, depth of watches, DOMID_ANY. */
export const PROFILE_C_HEAD: XenstoreProfile = Object.freeze({
  ...PROFILE_C_4_17,
  name: 'c-head',
  watchQuotaError: 'ENOSPC',
  nodeOverheadSize: 16,
  badString: Object.freeze({ reading: 'EINVAL', changing: 'EINVAL' }),
  serverFeatures:
    XENSTORE_SERVER_FEATURE_ERROR | XENSTORE_SERVER_FEATURE_WATCHDEPTH | XENSTORE_SERVER_FEATURE_DOMID_ANY,
  usesPagePort: true,
  ringErrors: 'if-offered',
  operationCount: XS_SET_QUOTA + 1,
  quotaSlack: Object.freeze({
    nodes: -1,
    watches: -1,
    transactions: -1,
    transactionNodes: -1,
    pathSize: -1,
    permissions: -1,
  }),
  zeroQuotaDisables: true,
  quotasPerDomain: true,
  nodeAccounting: 'at-reply',
  memoryQuotaOf: 'writer',
  pathLimit: 'guests',
  specialNames: 'nodes',
  domidSyntax: 'decimal',
  deadPermissions: 'removed',
  socketsCount: true,
});
