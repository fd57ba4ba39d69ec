import {
  XS_CONTROL,
  XS_DIRECTORY,
  XS_DIRECTORY_PART,
  XS_ERROR,
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
  XS_RESTRICT,
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
  XS_WATCH_EVENT,
  XS_WRITE,
} from '@virtlab/abi/xs-wire';

/** Operations as xenstore.txt calls them. */
export type OperationName =
  | 'CONTROL'
  | 'DIRECTORY'
  | 'READ'
  | 'GET_PERMS'
  | 'WATCH'
  | 'UNWATCH'
  | 'TRANSACTION_START'
  | 'TRANSACTION_END'
  | 'INTRODUCE'
  | 'RELEASE'
  | 'GET_DOMAIN_PATH'
  | 'WRITE'
  | 'MKDIR'
  | 'RM'
  | 'SET_PERMS'
  | 'WATCH_EVENT'
  | 'ERROR'
  | 'IS_DOMAIN_INTRODUCED'
  | 'RESUME'
  | 'SET_TARGET'
  | 'RESTRICT'
  | 'RESET_WATCHES'
  | 'DIRECTORY_PART'
  | 'GET_FEATURE'
  | 'SET_FEATURE'
  | 'GET_QUOTA'
  | 'SET_QUOTA';

/** Their numbers on the wire. */
export const OPERATIONS: Readonly<Record<OperationName, number>> = {
  CONTROL: XS_CONTROL,
  DIRECTORY: XS_DIRECTORY,
  READ: XS_READ,
  GET_PERMS: XS_GET_PERMS,
  WATCH: XS_WATCH,
  UNWATCH: XS_UNWATCH,
  TRANSACTION_START: XS_TRANSACTION_START,
  TRANSACTION_END: XS_TRANSACTION_END,
  INTRODUCE: XS_INTRODUCE,
  RELEASE: XS_RELEASE,
  GET_DOMAIN_PATH: XS_GET_DOMAIN_PATH,
  WRITE: XS_WRITE,
  MKDIR: XS_MKDIR,
  RM: XS_RM,
  SET_PERMS: XS_SET_PERMS,
  WATCH_EVENT: XS_WATCH_EVENT,
  ERROR: XS_ERROR,
  IS_DOMAIN_INTRODUCED: XS_IS_DOMAIN_INTRODUCED,
  RESUME: XS_RESUME,
  SET_TARGET: XS_SET_TARGET,
  RESTRICT: XS_RESTRICT,
  RESET_WATCHES: XS_RESET_WATCHES,
  DIRECTORY_PART: XS_DIRECTORY_PART,
  GET_FEATURE: XS_GET_FEATURE,
  SET_FEATURE: XS_SET_FEATURE,
  GET_QUOTA: XS_GET_QUOTA,
  SET_QUOTA: XS_SET_QUOTA,
};

/** By number, without holes. */
const BY_NUMBER: readonly string[] = Array.from(
  { length: XS_SET_QUOTA + 1 },
  (_, type) => Object.entries(OPERATIONS).find(([, number]) => number === type)?.[0] ?? `#${type}`,
);

/** How many operations have a name: those below this number. */
export const OPERATION_COUNT: number = BY_NUMBER.length;

/** As in xenstore.txt, or `#` and the number. */
export function operationName(type: number): string {
  return BY_NUMBER[type] ?? `#${type}`;
}
