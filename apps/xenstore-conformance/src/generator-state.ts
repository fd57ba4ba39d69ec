import { OPERATIONS } from './operations.ts';
import type { Step } from './script.ts';

/** What the generator believes about the store; the daemons may know better. */
export interface GeneratorState {
  readonly introduced: Set<number>;
  /** Open transactions and watches by connection. */
  transactionsOf(connection: string): string[];
  watchesOf(connection: string): (readonly [path: string, token: string])[];
  /** A name that no transaction had. */
  newTransaction(): string;
  /** The connection loses its transactions and watches. */
  forget(connection: string): void;
  administer(what: 'release' | 'resume', domid: number): Step;
}

export function newState(): GeneratorState {
  const introduced = new Set<number>();
  const transactions = new Map<string, string[]>();
  const watches = new Map<string, (readonly [string, string])[]>();
  let count = 0;
  const forget = (connection: string): void => {
    transactions.delete(connection);
    watches.delete(connection);
  };
  return {
    introduced,
    transactionsOf: (connection) => listOf(transactions, connection),
    watchesOf: (connection) => listOf(watches, connection),
    newTransaction: () => {
      count += 1;
      return `t${count}`;
    },
    forget,
    administer: (what, domid) => {
      if (what === 'release') {
        introduced.delete(domid);
        forget(String(domid));
      }
      const op = what === 'release' ? OPERATIONS.RELEASE : OPERATIONS.RESUME;
      return { kind: 'request', on: '0', op, payload: `${domid}\0` };
    },
  };
}

function listOf<T>(lists: Map<string, T[]>, key: string): T[] {
  let list = lists.get(key);
  if (list === undefined) {
    list = [];
    lists.set(key, list);
  }
  return list;
}
