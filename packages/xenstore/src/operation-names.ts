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

const NAMES: readonly (readonly [number, string])[] = [
  [XS_CONTROL, 'CONTROL'],
  [XS_DIRECTORY, 'DIRECTORY'],
  [XS_READ, 'READ'],
  [XS_GET_PERMS, 'GET_PERMS'],
  [XS_WATCH, 'WATCH'],
  [XS_UNWATCH, 'UNWATCH'],
  [XS_TRANSACTION_START, 'TRANSACTION_START'],
  [XS_TRANSACTION_END, 'TRANSACTION_END'],
  [XS_INTRODUCE, 'INTRODUCE'],
  [XS_RELEASE, 'RELEASE'],
  [XS_GET_DOMAIN_PATH, 'GET_DOMAIN_PATH'],
  [XS_WRITE, 'WRITE'],
  [XS_MKDIR, 'MKDIR'],
  [XS_RM, 'RM'],
  [XS_SET_PERMS, 'SET_PERMS'],
  [XS_WATCH_EVENT, 'WATCH_EVENT'],
  [XS_ERROR, 'ERROR'],
  [XS_IS_DOMAIN_INTRODUCED, 'IS_DOMAIN_INTRODUCED'],
  [XS_RESUME, 'RESUME'],
  [XS_SET_TARGET, 'SET_TARGET'],
  [XS_RESTRICT, 'RESTRICT'],
  [XS_RESET_WATCHES, 'RESET_WATCHES'],
  [XS_DIRECTORY_PART, 'DIRECTORY_PART'],
  [XS_GET_FEATURE, 'GET_FEATURE'],
  [XS_SET_FEATURE, 'SET_FEATURE'],
  [XS_GET_QUOTA, 'GET_QUOTA'],
  [XS_SET_QUOTA, 'SET_QUOTA'],
];

/** Operations by number, as xenstore.txt calls them; without holes. */
const BY_NUMBER: readonly string[] = Array.from(
  { length: XS_SET_QUOTA + 1 },
  (_, type) => NAMES.find(([number]) => number === type)?.[1] ?? `#${type}`,
);

/** How many operations have a name: those below this number. */
export const OPERATION_COUNT: number = BY_NUMBER.length;

/** As in xenstore.txt, or `#` and the number. */
export function operationName(type: number): string {
  return BY_NUMBER[type] ?? `#${type}`;
}
