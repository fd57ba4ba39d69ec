import {
  XS_MKDIR,
  XS_RM,
  XS_SET_PERMS,
  XS_TRANSACTION_END,
  XS_TRANSACTION_START,
  XS_WRITE,
} from '@virtlab/abi/xs-wire';
import type { Step } from './script.ts';

const CHANGES: ReadonlySet<number> = new Set([XS_WRITE, XS_MKDIR, XS_RM, XS_SET_PERMS, XS_TRANSACTION_END]);
/** EINVAL: when the search for the guilty failed. */
const FAILED_COMMIT: ReadonlySet<string> = new Set(['EAGAIN', 'EINVAL']);
/** Other failures may leave behind parents that were made. */
const WITHOUT_TRACE: ReadonlySet<string> = new Set(['EINVAL', 'ENOENT', 'EIO', 'EAGAIN']);
/** A domain starts with 5 points and never has less than -1 (domains.ml, `decr_conflict_credit`). */
const POINT_COUNT_MAX = 6;

/**
 * What guests may owe oxenstored: it charges a point to each domain without whose change a transaction would not have
 * failed, and gives one point back per tick. An upper bound, from what clients can see.
 */
export class ConflictDebts {
  readonly #points = new Map<number, number>();
  /** By transaction: guests that changed something since it started. */
  readonly #suspects = new Map<string, Set<number>>();
  readonly #changers = new Set<number>();

  /** A request was answered; `error` if with one. */
  answered({ on, op, tx, names }: Extract<Step, { kind: 'request' }>, error: string | undefined): void {
    if (op === XS_TRANSACTION_START && names !== undefined) this.#suspects.set(names, new Set());
    const domid = Number.parseInt(on, 10);
    if (op === XS_TRANSACTION_END && tx !== undefined && FAILED_COMMIT.has(error ?? '')) {
      this.#charge(domid, this.#suspects.get(tx));
    }
    const isDone = tx === undefined || op === XS_TRANSACTION_END;
    if (domid === 0 || !isDone || !CHANGES.has(op) || WITHOUT_TRACE.has(error ?? '')) return;
    this.#changers.add(domid);
    for (const suspects of this.#suspects.values()) suspects.add(domid);
  }

  /** After how many ticks the domain certainly owes nothing. */
  tickCountFor(domid: number): number {
    if (!this.#points.has(domid)) return 0;
    let count = 0;
    for (const points of this.#points.values()) count += points;
    return count;
  }

  /** As many ticks as there were points passed. */
  clear(): void {
    this.#points.clear();
  }

  #charge(victim: number, suspects: ReadonlySet<number> = this.#changers): void {
    for (const domid of suspects) {
      if (domid === victim) continue;
      this.#points.set(domid, Math.min(POINT_COUNT_MAX, (this.#points.get(domid) ?? 0) + 1));
    }
  }
}
