import { DOMID_ANY } from '@virtlab/abi/xen';
import { XENSTORE_SERVER_FEATURE_DOMID_ANY } from '@virtlab/abi/xs-wire';
import { homePath } from './path.ts';
import type { XenstoreProfile, XenstoreQuotas } from './profile.ts';

/** What a domain uses up, as far as its highest values are remembered. */
export type AccountItem =
  | 'nodes'
  | 'watches'
  | 'outstanding'
  | 'memorySize'
  | 'transactions'
  | 'transactionNodes'
  | 'permissions'
  | 'pathSize'
  | 'nodeSize';

/** The highest value that was ever seen of each item. */
export class HighWater {
  readonly #values = new Map<AccountItem, number>();

  get(item: AccountItem): number {
    return this.#values.get(item) ?? 0;
  }

  see(item: AccountItem, value: number): void {
    if (value > this.get(item)) this.#values.set(item, value);
  }

  clear(): void {
    this.#values.clear();
  }
}

/** What the store knows of one domain: its place in the permission history, and what it uses up. */
export class DomainRecord {
  readonly domid: number;
  /** Store generation when the domain was first heard of; older permission entries do not mean it. */
  readonly generation: number;
  /** Limits of this domain: the common object, or its own copy, as the profile says. */
  readonly quotas: XenstoreQuotas;
  /** Server features that it is offered (xenstore.txt, SET_FEATURE). */
  features: number;
  readonly home: string;
  /** Connected by INTRODUCE. */
  introduced = false;
  /** Where its connection stands among all (`StoreConnection.place`); 0: it has had none. */
  place = 0;
  /** Reported to `@releaseDomain` as shut down, and not resumed since. */
  shutdown = false;
  /** Domain whose rights it shares (SET_TARGET). */
  target: number | undefined;
  /** Domains that were given this one as target, once for every SET_TARGET: they keep it from being released. */
  readonly referrers: number[] = [];
  /** Gone, but kept as the target of this domain until that goes too. */
  detachedTo: number | undefined;
  /** Its ring broke the protocol: it is neither read nor written any more, until the domain is released. */
  isIgnored = false;
  readonly highWater: HighWater = new HighWater();
  readonly #common: HighWater;
  #nodeCount = 0;
  #watchCount = 0;
  #memorySize = 0;
  #transactionCount = 0;
  #outstandingCount = 0;

  constructor(
    domid: number,
    generation: number,
    quotas: XenstoreQuotas,
    features: number,
    common: HighWater,
  ) {
    this.domid = domid;
    this.generation = generation;
    this.quotas = quotas;
    this.features = features;
    this.home = homePath(domid);
    this.#common = common;
  }

  get nodeCount(): number {
    return this.#nodeCount;
  }

  set nodeCount(count: number) {
    if (count > this.#nodeCount) this.see('nodes', count);
    this.#nodeCount = count;
  }

  get watchCount(): number {
    return this.#watchCount;
  }

  set watchCount(count: number) {
    if (count > this.#watchCount) this.see('watches', count);
    this.#watchCount = count;
  }

  /** Bytes of nodes, watches, open transactions and undelivered output. */
  get memorySize(): number {
    return this.#memorySize;
  }

  set memorySize(size: number) {
    if (size > this.#memorySize) this.see('memorySize', size);
    this.#memorySize = size;
  }

  get transactionCount(): number {
    return this.#transactionCount;
  }

  set transactionCount(count: number) {
    if (count > this.#transactionCount) this.see('transactions', count);
    this.#transactionCount = count;
  }

  /** Requests whose reply or events are not yet delivered. */
  get outstandingCount(): number {
    return this.#outstandingCount;
  }

  set outstandingCount(count: number) {
    if (count > this.#outstandingCount) this.see('outstanding', count);
    this.#outstandingCount = count;
  }

  /** Remembers a value for CONTROL `quota max`; domain 0 does not count among all. */
  see(item: AccountItem, value: number): void {
    this.highWater.see(item, value);
    if (isUnprivilegedDomain(this.domid)) this.#common.see(item, value);
  }
}

/** Domain 0 and its like are not limited. */
export function isUnprivilegedDomain(domid: number): boolean {
  return domid !== 0;
}

export class DomainTable {
  /** Over all unprivileged domains. */
  readonly highWater: HighWater = new HighWater();
  readonly #records = new Map<number, DomainRecord>();
  readonly #generation: () => number;
  readonly #profile: XenstoreProfile;
  readonly #quotas: XenstoreQuotas;

  /** `generation` yields the store's current generation; `quotas` are those common to all. */
  constructor(generation: () => number, profile: XenstoreProfile, quotas: XenstoreQuotas) {
    this.#generation = generation;
    this.#profile = profile;
    this.#quotas = quotas;
  }

  /** Whether DOMID_ANY in a permission list means every domain. */
  get knowsAny(): boolean {
    return (this.#profile.serverFeatures & XENSTORE_SERVER_FEATURE_DOMID_ANY) !== 0;
  }

  find(domid: number): DomainRecord | undefined {
    return this.#records.get(domid);
  }

  /** The record, made if there is none yet. */
  get(domid: number): DomainRecord {
    let record = this.#records.get(domid);
    if (record === undefined) {
      const { quotasPerDomain, serverFeatures } = this.#profile;
      const quotas = quotasPerDomain ? { ...this.#quotas } : this.#quotas;
      record = new DomainRecord(domid, this.#generation(), quotas, serverFeatures, this.highWater);
      this.#records.set(domid, record);
    }
    return record;
  }

  /** The record goes, and with it what it referred to. */
  delete(domid: number): void {
    this.#records.delete(domid);
    for (const record of this.#records.values()) {
      if (record.target === domid) record.target = undefined;
      const { referrers } = record;
      for (let i = referrers.length - 1; i >= 0; i--) {
        if (referrers[i] === domid) referrers.splice(i, 1);
      }
    }
  }

  all(): IterableIterator<DomainRecord> {
    return this.#records.values();
  }

  /** Whether a permission entry written at `nodeGeneration` still means the domain that has this id now. */
  isCurrent(domid: number, nodeGeneration: number): boolean {
    if (domid === DOMID_ANY) return this.knowsAny;
    const record = this.#records.get(domid);
    return record !== undefined && record.generation <= nodeGeneration;
  }

  /** CONTROL `quota max -r`: the highest values start again from what is used now, those over all from 0. */
  resetHighWater(): void {
    this.highWater.clear();
    for (const record of this.#records.values()) {
      record.highWater.clear();
      record.highWater.see('nodes', record.nodeCount);
      record.highWater.see('watches', record.watchCount);
      record.highWater.see('outstanding', record.outstandingCount);
      record.highWater.see('memorySize', record.memorySize);
      record.highWater.see('transactions', record.transactionCount);
    }
  }
}
