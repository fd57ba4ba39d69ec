import {
  OPERATIONS as WIRE_OPERATIONS,
  type OperationName as WireOperationName,
} from '@virtlab/xenstore/wire';

const { TRANSACTION_START, TRANSACTION_END, ...others } = WIRE_OPERATIONS;

/** As xenstore.txt has it, without `XS_`; START and END are short for TRANSACTION_…. */
export type OperationName =
  | Exclude<WireOperationName, 'TRANSACTION_START' | 'TRANSACTION_END'>
  | 'START'
  | 'END';

/** On the wire. */
export const OPERATIONS: Readonly<Record<OperationName, number>> = {
  ...others,
  START: TRANSACTION_START,
  END: TRANSACTION_END,
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
