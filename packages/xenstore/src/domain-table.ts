import { homePath } from './path.ts';

/** What the store knows of one domain: its place in the permission history, and what it uses up. */
export interface DomainRecord {
  readonly domid: number;
  /** Store generation when the domain was first heard of; older permission entries do not mean it. */
  readonly generation: number;
  /** Connected by INTRODUCE. */
  introduced: boolean;
  /** Reported to `@releaseDomain` as shut down, and not resumed since. */
  shutdown: boolean;
  /** Domain whose rights it shares (SET_TARGET). */
  target: number | undefined;
  readonly home: string;
  nodeCount: number;
  watchCount: number;
  transactionCount: number;
  /** Requests whose reply or events are not yet delivered. */
  outstandingCount: number;
  /** Bytes of nodes, watches, open transactions and undelivered output. */
  memorySize: number;
}

/** Domain 0 and its like are not limited. */
export function isUnprivilegedDomain(domid: number): boolean {
  return domid !== 0;
}

export class DomainTable {
  readonly #records = new Map<number, DomainRecord>();
  readonly #generation: () => number;

  /** `generation` yields the store's current generation. */
  constructor(generation: () => number) {
    this.#generation = generation;
  }

  find(domid: number): DomainRecord | undefined {
    return this.#records.get(domid);
  }

  /** The record, made if there is none yet. */
  get(domid: number): DomainRecord {
    let record = this.#records.get(domid);
    if (record === undefined) {
      record = {
        domid,
        generation: this.#generation(),
        introduced: false,
        shutdown: false,
        target: undefined,
        home: homePath(domid),
        nodeCount: 0,
        watchCount: 0,
        transactionCount: 0,
        outstandingCount: 0,
        memorySize: 0,
      };
      this.#records.set(domid, record);
    }
    return record;
  }

  delete(domid: number): void {
    this.#records.delete(domid);
    for (const record of this.#records.values()) {
      if (record.target === domid) record.target = undefined;
    }
  }

  all(): IterableIterator<DomainRecord> {
    return this.#records.values();
  }

  /** Whether a permission entry written at `nodeGeneration` still means the domain that has this id now. */
  isCurrent(domid: number, nodeGeneration: number): boolean {
    const record = this.#records.get(domid);
    return record !== undefined && record.generation <= nodeGeneration;
  }
}
