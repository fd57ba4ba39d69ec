import { XS_INTRODUCE_DOMAIN, XS_RELEASE_DOMAIN } from '@virtlab/abi/xs-wire';
import { DOMID_SELF } from '@virtlab/abi/xen';
import type { DomainRecord, DomainTable, HighWater } from './domain-table.ts';
import type { LiveTree } from './live-tree.ts';
import type { NodeEngine } from './node-engine.ts';
import type { OxEngine } from './ox-engine.ts';
import type { XenstoreProfile } from './profile.ts';
import { forgetDomain } from './special-nodes.ts';
import type { StoreConnection } from './store-connection.ts';
import type { WatchRegistry } from './watch-registry.ts';
import type { WriteRateLimit } from './write-rate-limit.ts';

/** What the lives of domains touch; owned by the store. */
export interface StoreDomainsParts {
  readonly profile: XenstoreProfile;
  readonly table: DomainTable;
  readonly tree: LiveTree;
  readonly watches: WatchRegistry;
  readonly nodes: NodeEngine;
  readonly oxenstored: OxEngine | undefined;
  readonly writeRateLimit: WriteRateLimit | undefined;
  readonly connections: Iterable<StoreConnection>;
  readonly domainExists: (domid: number) => boolean;
  /** Undefined: down is what `shutdown` and `resume` said. */
  readonly domainIsDown: ((domid: number) => boolean) | undefined;
  /** Nodes are about to change on nobody's behalf. */
  readonly onOrphans: () => void;
}

/** Domains as the store knows them: introduced, down, gone, and with the rights of others. */
export class StoreDomains {
  readonly #parts: StoreDomainsParts;
  readonly #table: DomainTable;

  constructor(parts: StoreDomainsParts) {
    this.#parts = parts;
    this.#table = parts.table;
  }

  isIntroduced(domid: number): boolean {
    return domid === DOMID_SELF || this.#table.find(domid)?.introduced === true;
  }

  /** Returns whether the domain is new; only then `@introduceDomain` fires. */
  introduce(domid: number): boolean {
    const domain = this.#table.get(domid);
    if (domain.introduced) return false;
    domain.introduced = true;
    domain.shutdown = false;
    this.#parts.writeRateLimit?.join(domain);
    this.#parts.watches.fireSpecial(XS_INTRODUCE_DOMAIN, domid);
    return true;
  }

  /**
   * The domain is gone: all nodes it owned disappear with everything below, permission entries for it lose their
   * meaning, and `@releaseDomain` fires if it was introduced. Its connections must have been closed before.
   */
  release(domid: number): void {
    const domain = this.#table.find(domid);
    this.#parts.oxenstored?.forgetPorts(domid);
    if (domain === undefined || domid === 0 || (this.#parts.oxenstored !== undefined && !domain.introduced)) {
      if (this.#lookForDown()) this.#parts.watches.fireSpecial(XS_RELEASE_DOMAIN, domid);
      return; // oxenstored does not know of domains not introduced, and leaves them their nodes
    }
    this.#parts.writeRateLimit?.leave(domain);
    this.#parts.onOrphans();
    if (this.#parts.oxenstored !== undefined) {
      this.#parts.oxenstored.removeDomain(domid);
      this.#table.delete(domid);
      this.#parts.watches.fireSpecial(XS_RELEASE_DOMAIN, domid);
      return;
    }
    for (const path of this.#parts.tree.topmostOwned(domid)) this.#parts.nodes.removeOrphan(path);
    forgetDomain(this.#parts.profile, this.#parts.tree, domid);
    this.#parts.watches.forgetDomain(domid);
    this.#table.delete(domid);
    const hasDown = !this.#parts.domainExists(domid) && this.#lookForDown();
    if (domain.introduced || hasDown) this.#parts.watches.fireSpecial(XS_RELEASE_DOMAIN, domid);
  }

  /** Whether the domain's connection is the one that the daemon looks at after this one. */
  isNextAfter({ place: from }: StoreConnection, domid: number): boolean {
    const place = this.#table.find(domid)?.place ?? 0;
    if (place <= from) return false;
    for (const other of this.#parts.connections) if (other.place > from && other.place < place) return false;
    for (const other of this.#table.all()) if (other.place > from && other.place < place) return false;
    return true;
  }

  /** The domain has shut down or crashed but exists: `@releaseDomain` fires, until `resume` once but in oxenstored. */
  shutdown(domid: number): void {
    const domain = this.#table.find(domid);
    const isNew = domain?.introduced === true && (!domain.shutdown || this.#parts.oxenstored !== undefined);
    if (isNew) domain.shutdown = true;
    if (this.#lookForDown() || isNew)
      this.#parts.watches.fireSpecial(XS_RELEASE_DOMAIN, domid, ['domain', 'plain']);
  }

  /**
   * Something happened to some domain, so all are looked at: whether one is down that was not known to be (`domain_cleanup`),
   * or known or not in oxenstored (domains.ml, `cleanup`).
   */
  #lookForDown(): boolean {
    let isAny = false;
    for (const domain of this.#table.all()) {
      if (domain.domid === 0 || !domain.introduced || !this.#isDown(domain)) continue;
      isAny ||= this.#parts.oxenstored !== undefined || !domain.shutdown;
      domain.shutdown = true;
    }
    return isAny;
  }

  resume(domid: number): void {
    const domain = this.#table.find(domid);
    if (domain !== undefined) domain.shutdown = false;
  }

  /** SET_TARGET. The target then outlives RELEASE until nobody refers to it (`dropReference`); not in oxenstored. */
  setTarget(domid: number, target: number): void {
    this.#table.get(domid).target = target;
    if (this.#parts.oxenstored === undefined) this.#table.get(target).referrers.push(domid);
  }

  /** Takes back one reference to a domain that is a target; false if there is none. */
  dropReference(domid: number): boolean {
    return this.#table.find(domid)?.referrers.pop() !== undefined;
  }

  /**
   * The domain is gone, but it is a target: it stays, unreachable, until nobody refers to it (`talloc_unlink` of what
   * is referenced). False if it is nobody's target.
   */
  detach(domid: number): boolean {
    const domain = this.#table.find(domid);
    const owner = domain?.introduced === true ? domain.referrers.pop() : undefined;
    if (owner === undefined) return false;
    domain!.detachedTo = owner;
    return true;
  }

  /** Domains that were kept for the sake of `domid`, which goes now, and of nobody else: they go before it. */
  takeDetached(domid: number): number[] {
    const gone: number[] = [];
    for (const domain of this.#table.all()) {
      if (domain.detachedTo !== domid) continue;
      const others = domain.referrers.filter((referrer) => referrer !== domid);
      domain.referrers.splice(0, domain.referrers.length, ...others);
      domain.detachedTo = domain.referrers.pop();
      if (domain.detachedTo === undefined) gone.push(domain.domid);
    }
    return gone;
  }

  /** The record of a domain that exists, introduced or not. */
  existing(domid: number): DomainRecord | undefined {
    return this.#table.find(domid) ?? (this.#parts.domainExists(domid) ? this.#table.get(domid) : undefined);
  }

  /** The highest values over all unprivileged domains. */
  get highWater(): HighWater {
    return this.#table.highWater;
  }

  /** See `DomainTable.resetHighWater`. */
  resetHighWater(): void {
    this.#table.resetHighWater();
  }

  #isDown({ domid, shutdown }: DomainRecord): boolean {
    return this.#parts.domainIsDown?.(domid) ?? shutdown;
  }
}
