import type { OxStore } from './ox-store.ts';
import type { OxView } from './ox-view.ts';
import type { StoreConnection } from './store-connection.ts';

/** Transactions older than this are not protected by the history. */
export const OX_HISTORY_MS = 50;

/** A change by a domain, with the store as it was before and after. */
export interface OxHistoryRecord {
  readonly connection: StoreConnection;
  readonly before: OxStore;
  readonly after: OxStore;
  readonly finishCount: number;
}

/**
 * What domains changed while young transactions are open, so that a failed commit can be blamed on somebody
 * (history.ml). Changes of domain 0 are not kept: it may always conflict.
 */
export class OxHistory {
  readonly #now: () => number;
  #records: OxHistoryRecord[] = [];
  /** Oldest last. */
  #young: { readonly startedAt: number; readonly view: OxView }[] = [];
  #commitCount = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  get commitCount(): number {
    return this.#commitCount;
  }

  started(view: OxView): void {
    this.#young.unshift({ startedAt: this.#now(), view });
  }

  ended(view: OxView): void {
    this.trim(view);
  }

  /** Forgets what protects no young transaction. */
  trim(ended?: OxView): void {
    if (this.#young.length > 0) {
      const cutoff = this.#now() - OX_HISTORY_MS;
      this.#young = this.#young.filter(({ startedAt, view }) => startedAt >= cutoff && view !== ended);
    }
    if (this.#records.length === 0) return;
    const oldest = this.#young.at(-1);
    this.#records =
      oldest === undefined
        ? []
        : this.#records.filter(({ finishCount }) => finishCount > oldest.view.startCount);
  }

  /** Whether what the connection changes now must be recorded at all: only then the store's state before is needed. */
  watches(connection: StoreConnection): boolean {
    return !connection.privileged && connection.domid !== 0 && this.#young.length > 0;
  }

  /** A change, or a request that might have been one, is done. */
  committed(connection: StoreConnection, before: OxStore | undefined, after: OxStore): void {
    this.#commitCount += 1;
    if (before === undefined || !this.watches(connection)) return;
    this.#records.unshift({ connection, before, after, finishCount: this.#commitCount });
  }

  /** Each connection but `victim` that has a record since `startCount` for which `isGuilty` holds. Newest first. */
  guilty(
    victim: StoreConnection,
    startCount: number,
    isGuilty: (record: OxHistoryRecord) => boolean,
  ): Set<StoreConnection> {
    const found = new Set<StoreConnection>();
    for (const record of this.#records) {
      const { connection, finishCount } = record;
      if (finishCount <= startCount || connection === victim || found.has(connection)) continue;
      if (isGuilty(record)) found.add(connection);
    }
    return found;
  }
}
