import { type OperationText, operationNumber } from '../operations.ts';
import type { ConnectionName, Step } from '../script.ts';

/**
 * `[who, operation, payload]`. `who` is a connection, with a transaction behind a slash if there is one. The operation
 * may be followed by `=` and the name of the transaction that it starts. In the payload `|` is NUL and `$` the path
 * below which the case keeps its nodes.
 */
export type Row = readonly [who: string, operation: OperationText | `START=${string}`, payload: string];

export interface FixedCase {
  /** Unique within its group. */
  readonly name: string;
  readonly rows: readonly (Row | Step)[];
  /** What the last row must bring about, as the transcript has it with ` ; ` between; `$` as in the rows. */
  readonly last?: ExpectedOutcome;
}

/** One text for all daemons, or one for each; those that are left out answer as C 4.17 does, and it as chance has it. */
export type ExpectedOutcome =
  | string
  | { readonly c?: string; readonly head?: string; readonly oxenstored?: string };

export interface FixedGroup {
  readonly name: string;
  /** Played once; its rings stay for all cases, its sockets do not. */
  readonly before?: readonly (Row | Step)[];
  /** Each case gets a daemon of its own. Otherwise they are played to one, and all sockets are closed before each. */
  readonly isolated?: true;
  readonly cases: readonly FixedCase[];
}

/** The rows as steps. `home` replaces `$`. */
export function stepsOf(rows: readonly (Row | Step)[], home: string): Step[] {
  return rows.map((row) => (isStep(row) ? row : stepOf(row, home)));
}

export const create = (domid: number): Step => ({ kind: 'create', domid });
export const destroy = (domid: number): Step => ({ kind: 'destroy', domid });
export const destroyAtOnce = (domid: number): Step => ({ kind: 'destroy', domid, atOnce: true });
export const shutdown = (domid: number): Step => ({ kind: 'shutdown', domid });
export const introduce = (domid: number): Step => ({ kind: 'introduce', on: '0', domid });
export const raw = (on: ConnectionName, bytes: string): Step => ({ kind: 'raw', on, bytes });
export const close = (on: ConnectionName): Step => ({ kind: 'close', on });
export const pause = (on: ConnectionName): Step => ({ kind: 'pause', on });
export const resume = (on: ConnectionName): Step => ({ kind: 'resume', on });
export const reconnect = (on: ConnectionName): Step => ({ kind: 'reconnect', on });

/** A domain that exists and is introduced. */
export const guest = (domid: number): Step[] => [create(domid), introduce(domid)];

function isStep(row: Row | Step): row is Step {
  return !Array.isArray(row);
}

function stepOf([who, operation, payload]: Row, home: string): Step {
  const [on = '', tx] = who.split('/');
  const [op, names] = operation.split('=') as [OperationText, string | undefined];
  return {
    kind: 'request',
    on,
    op: operationNumber(op),
    payload: payload.replaceAll('|', '\0').replaceAll('$', home),
    ...(tx === undefined ? {} : { tx }),
    ...(names === undefined ? {} : { names }),
  };
}
