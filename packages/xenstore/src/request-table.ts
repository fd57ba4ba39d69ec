import {
  XS_CONTROL,
  XS_DIRECTORY,
  XS_DIRECTORY_PART,
  XS_GET_DOMAIN_PATH,
  XS_GET_FEATURE,
  XS_GET_PERMS,
  XS_GET_QUOTA,
  XS_INTRODUCE,
  XS_IS_DOMAIN_INTRODUCED,
  XS_MKDIR,
  XS_READ,
  XS_RELEASE,
  XS_RESET_WATCHES,
  XS_RESUME,
  XS_RM,
  XS_SET_FEATURE,
  XS_SET_PERMS,
  XS_SET_QUOTA,
  XS_SET_TARGET,
  XS_TRANSACTION_END,
  XS_TRANSACTION_START,
  XS_UNWATCH,
  XS_WATCH,
  XS_WRITE,
} from '@virtlab/abi/xs-wire';
import { control } from './control-requests.ts';
import {
  getDomainPath,
  introduce,
  isDomainIntroduced,
  release,
  resume,
  setTarget,
} from './domain-requests.ts';
import { getFeature, getQuota, setFeature, setQuota } from './feature-requests.ts';
import {
  directory,
  directoryPart,
  getPermissions,
  mkdir,
  read,
  rm,
  setPermissions,
  write,
} from './node-requests.ts';
import type { RequestHandler } from './request.ts';
import { resetWatches, transactionEnd, transactionStart, unwatch, watch } from './session-requests.ts';

export interface RequestEntry {
  readonly handle: RequestHandler;
  /** EACCES for unprivileged connections. */
  readonly privileged?: true;
  /** The transaction id is neither looked up nor honoured, only echoed. */
  readonly ignoresTransaction?: true;
}

/** The operations by their number; for all others, and those from the profile's `operationCount` on, ENOSYS. */
export const REQUESTS: ReadonlyMap<number, RequestEntry> = new Map<number, RequestEntry>([
  [XS_CONTROL, { handle: control, privileged: true }],
  [XS_DIRECTORY, { handle: directory }],
  [XS_READ, { handle: read }],
  [XS_GET_PERMS, { handle: getPermissions }],
  [XS_WATCH, { handle: watch, ignoresTransaction: true }],
  [XS_UNWATCH, { handle: unwatch, ignoresTransaction: true }],
  [XS_TRANSACTION_START, { handle: transactionStart }],
  [XS_TRANSACTION_END, { handle: transactionEnd }],
  [XS_INTRODUCE, { handle: introduce, privileged: true }],
  [XS_RELEASE, { handle: release, privileged: true }],
  [XS_GET_DOMAIN_PATH, { handle: getDomainPath }],
  [XS_WRITE, { handle: write }],
  [XS_MKDIR, { handle: mkdir }],
  [XS_RM, { handle: rm }],
  [XS_SET_PERMS, { handle: setPermissions }],
  [XS_IS_DOMAIN_INTRODUCED, { handle: isDomainIntroduced, privileged: true }],
  [XS_RESUME, { handle: resume, privileged: true }],
  [XS_SET_TARGET, { handle: setTarget, privileged: true }],
  [XS_RESET_WATCHES, { handle: resetWatches }],
  [XS_DIRECTORY_PART, { handle: directoryPart }],
  [XS_GET_FEATURE, { handle: getFeature }],
  [XS_SET_FEATURE, { handle: setFeature, privileged: true }],
  [XS_GET_QUOTA, { handle: getQuota, privileged: true }],
  [XS_SET_QUOTA, { handle: setQuota, privileged: true }],
]);
