import * as wire from '@virtlab/abi/xs-wire';

/** As xenstore.txt has it, without `XS_`; START and END are short for TRANSACTION_…. */
export type OperationName =
  | 'CONTROL'
  | 'DIRECTORY'
  | 'READ'
  | 'GET_PERMS'
  | 'WATCH'
  | 'UNWATCH'
  | 'START'
  | 'END'
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

/** On the wire. */
export const OPERATIONS: Readonly<Record<OperationName, number>> = {
  CONTROL: wire.XS_CONTROL,
  DIRECTORY: wire.XS_DIRECTORY,
  READ: wire.XS_READ,
  GET_PERMS: wire.XS_GET_PERMS,
  WATCH: wire.XS_WATCH,
  UNWATCH: wire.XS_UNWATCH,
  START: wire.XS_TRANSACTION_START,
  END: wire.XS_TRANSACTION_END,
  INTRODUCE: wire.XS_INTRODUCE,
  RELEASE: wire.XS_RELEASE,
  GET_DOMAIN_PATH: wire.XS_GET_DOMAIN_PATH,
  WRITE: wire.XS_WRITE,
  MKDIR: wire.XS_MKDIR,
  RM: wire.XS_RM,
  SET_PERMS: wire.XS_SET_PERMS,
  WATCH_EVENT: wire.XS_WATCH_EVENT,
  ERROR: wire.XS_ERROR,
  IS_DOMAIN_INTRODUCED: wire.XS_IS_DOMAIN_INTRODUCED,
  RESUME: wire.XS_RESUME,
  SET_TARGET: wire.XS_SET_TARGET,
  RESTRICT: wire.XS_RESTRICT,
  RESET_WATCHES: wire.XS_RESET_WATCHES,
  DIRECTORY_PART: wire.XS_DIRECTORY_PART,
  GET_FEATURE: wire.XS_GET_FEATURE,
  SET_FEATURE: wire.XS_SET_FEATURE,
  GET_QUOTA: wire.XS_GET_QUOTA,
  SET_QUOTA: wire.XS_SET_QUOTA,
};

/** By name, or `#` and the number on the wire. */
export type OperationText = OperationName | `#${number}`;

const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(OPERATIONS).map(([name, number]) => [number, name]),
);

export function operationNumber(text: OperationText): number {
  return text.startsWith('#') ? Number(text.slice(1)) : OPERATIONS[text as OperationName];
}

export function operationName(number: number): string {
  return NAMES.get(number) ?? `#${number}`;
}
