import {
  GNTST_bad_copy_arg,
  GNTST_bad_gntref,
  GNTST_general_error,
  GNTST_okay,
} from '@virtlab/abi/grant-table';
import { XEN_PAGE_SIZE } from '@virtlab/abi/xen';

export interface ModelGrant {
  readonly kind: 'page' | 'sub-page' | 'transitive';
  /** Domain id. */
  readonly to: number;
  /** Of the granter's RAM, and what of the page; for a transitive grant the reference of the other granter. */
  readonly frame: number;
  readonly start: number;
  readonly size: number;
  readonly readonly: boolean;
  deferred: boolean;
}

export interface ModelMapping {
  readonly mapper: number;
  readonly granter: number;
  readonly ref: number;
  readonly writable: boolean;
}

/** Bytes that a copy may touch: granter (index), frame, and what of the page. */
interface Claim {
  readonly granter: number;
  readonly frame: number;
  readonly start: number;
  readonly size: number;
}

/**
 * The protocol of two granters and some mappers as two maps. Every question answers what the real tables must answer.
 * Granters are named by index, references are numbers.
 */
export class GrantModel {
  readonly grants: readonly Map<number, ModelGrant>[] = [new Map(), new Map()];
  /** By mapper (index) and handle. */
  readonly mappings: Map<string, ModelMapping> = new Map<string, ModelMapping>();
  readonly #versions: readonly number[];
  readonly #granterDomains: readonly number[];
  readonly #mapperDomains: readonly number[];
  readonly #entryCounts: readonly number[];

  constructor(
    versions: readonly number[],
    granterDomains: readonly number[],
    mapperDomains: readonly number[],
    entryCounts: readonly number[],
  ) {
    this.#versions = versions;
    this.#granterDomains = granterDomains;
    this.#mapperDomains = mapperDomains;
    this.#entryCounts = entryCounts;
  }

  inUse(granter: number, ref: number): { readonly reading: boolean; readonly writing: boolean } {
    const of = [...this.mappings.values()].filter((each) => each.granter === granter && each.ref === ref);
    return { reading: of.length > 0, writing: of.some(({ writable }) => writable) };
  }

  mayMap(mapper: number, granter: number, ref: number, writable: boolean): number {
    if (ref >= this.#entryCounts[granter]!) return GNTST_bad_gntref;
    const grant = this.grants[granter]!.get(ref);
    if (grant?.kind !== 'page') return GNTST_general_error;
    return this.#mayUse(this.#mapperDomains[mapper]!, granter, ref, grant, writable);
  }

  /** True if it ended. */
  end(granter: number, ref: number): boolean {
    if (this.inUse(granter, ref).reading) return false;
    return this.grants[granter]!.delete(ref);
  }

  /** Deferred references that are still in use, after those that are not were reclaimed. */
  reclaim(granter: number): number {
    const grants = this.grants[granter]!;
    for (const [ref, { deferred }] of grants) if (deferred) this.end(granter, ref);
    return [...grants.values()].filter(({ deferred }) => deferred).length;
  }

  swap(granter: number, a: number, b: number): boolean {
    const grants = this.grants[granter]!;
    const [grantA, grantB] = [grants.get(a), grants.get(b)];
    if (grantA?.deferred || grantB?.deferred) return a === b;
    if (a === b) return true;
    if (this.inUse(granter, a).reading || this.inUse(granter, b).reading) return false;
    grants.delete(a);
    grants.delete(b);
    if (grantA !== undefined) grants.set(b, grantA);
    if (grantB !== undefined) grants.set(a, grantB);
    return true;
  }

  /** Status of a copy between an own page and an entry, and where its bytes are. */
  copy(
    mapper: number,
    granter: number,
    ref: number,
    writable: boolean,
    offset: number,
    size: number,
  ): { readonly status: number; readonly claim?: Claim } {
    if (size === 0) return { status: GNTST_okay };
    const claim = this.#claim(this.#mapperDomains[mapper]!, granter, ref, writable, true);
    if (typeof claim === 'number') return { status: claim };
    if (offset + size > XEN_PAGE_SIZE) return { status: GNTST_bad_copy_arg };
    if (offset < claim.start || offset + size > claim.start + claim.size)
      return { status: GNTST_general_error };
    return { status: GNTST_okay, claim };
  }

  #claim(to: number, granter: number, ref: number, writable: boolean, mayPass: boolean): Claim | number {
    if (ref >= this.#entryCounts[granter]!) return GNTST_bad_gntref;
    const grant = this.grants[granter]!.get(ref);
    if (grant === undefined) return GNTST_general_error;
    if (grant.kind === 'transitive') {
      if (!mayPass || grant.to !== to || (writable && grant.readonly)) return GNTST_general_error;
      return this.#claim(this.#granterDomains[granter]!, 1 - granter, grant.frame, writable, false);
    }
    const status = this.#mayUse(to, granter, ref, grant, writable);
    return status === GNTST_okay ? { granter, ...grant } : status;
  }

  /** A deferred entry of version 2 is good for whoever holds it already, and for nobody else. */
  #mayUse(to: number, granter: number, ref: number, grant: ModelGrant, writable: boolean): number {
    const isClosed = grant.deferred && this.#versions[granter] === 2;
    if (grant.to !== to || (isClosed && !this.#isHeldBy(to, granter, ref))) return GNTST_general_error;
    return writable && grant.readonly ? GNTST_general_error : GNTST_okay;
  }

  #isHeldBy(domain: number, granter: number, ref: number): boolean {
    return [...this.mappings.values()].some(
      (each) => each.granter === granter && each.ref === ref && this.#mapperDomains[each.mapper] === domain,
    );
  }
}
