import type { DomId, GrantRef } from '@virtlab/abi/brands';
import { GNTST_okay } from '@virtlab/abi/grant-table';
import type { DeferralStatistics, GrantTable, GrantVersion, VersionedGrantTable } from './contract.ts';
import type { GrantEvents } from './grant-events.ts';
import type { GrantKind } from './grant-report.ts';

/** A table that tells what is done with it. */
export class TracedTable implements VersionedGrantTable {
  readonly #events: GrantEvents;
  readonly #domain: DomId;
  readonly #table: VersionedGrantTable;
  /** Deferred references, until they are seen to have ended. */
  readonly #waiting = new Set<number>();

  constructor(events: GrantEvents, domain: DomId, table: VersionedGrantTable) {
    this.#events = events;
    this.#domain = domain;
    this.#table = table;
  }

  get version(): GrantVersion {
    return this.#table.version;
  }

  get frameCount(): number {
    return this.#table.frameCount;
  }

  get capacity(): number {
    return this.#table.capacity;
  }

  get freeCount(): number {
    return this.#table.freeCount;
  }

  get deferral(): DeferralStatistics {
    return this.#table.deferral;
  }

  grantAccess(domain: DomId, frame: number, readonly: boolean): GrantRef | -1 {
    return this.#granted(
      this.#table.grantAccess(domain, frame, readonly),
      1,
      domain,
      'page',
      frame,
      readonly,
    );
  }

  grantRange(domain: DomId, firstFrame: number, count: number, readonly: boolean): GrantRef | -1 {
    const first = this.#table.grantRange(domain, firstFrame, count, readonly);
    return this.#granted(first, count, domain, 'page', firstFrame, readonly);
  }

  grantSubPage(domain: DomId, frame: number, offset: number, size: number, readonly: boolean): GrantRef | -1 {
    const ref = this.#table.grantSubPage(domain, frame, offset, size, readonly);
    return this.#granted(ref, 1, domain, 'sub-page', frame, readonly);
  }

  grantTransitive(domain: DomId, from: DomId, fromRef: GrantRef, readonly: boolean): GrantRef | -1 {
    const ref = this.#table.grantTransitive(domain, from, fromRef, readonly);
    return this.#granted(ref, 1, domain, 'transitive', fromRef, readonly);
  }

  endAccess(ref: GrantRef): boolean {
    const hasEnded = this.#table.endAccess(ref);
    if (hasEnded) this.#events.ended(this.#domain, ref);
    else {
      this.#events.deferred(this.#domain, ref); // the caller will try again: it waits all the same
      this.#events.refused('end', 'in use');
    }
    return hasEnded;
  }

  endRange(first: GrantRef, count: number): boolean {
    const hasEnded = this.#table.endRange(first, count);
    const left = hasEnded ? new Set<number>() : this.#deferredRefs();
    for (let ref = first as number; ref < first + count; ref++) {
      if (left.has(ref)) this.#defer(ref);
      else this.#events.ended(this.#domain, ref);
    }
    return hasEnded;
  }

  endOrDefer(ref: GrantRef, onEnded?: () => void): boolean {
    const hasEnded = this.#table.endOrDefer(ref, onEnded);
    if (hasEnded) this.#events.ended(this.#domain, ref);
    else this.#defer(ref);
    return hasEnded;
  }

  reclaimDeferred(limit?: number): number {
    const waitingCount =
      limit === undefined ? this.#table.reclaimDeferred() : this.#table.reclaimDeferred(limit);
    const left = this.#deferredRefs();
    for (const ref of this.#waiting) {
      if (left.has(ref)) continue;
      this.#waiting.delete(ref);
      this.#events.ended(this.#domain, ref);
    }
    return waitingCount;
  }

  onDeferred(handler: (() => void) | undefined): void {
    this.#table.onDeferred(handler);
  }

  isInUse(ref: GrantRef): boolean {
    return this.#table.isInUse(ref);
  }

  live(): ReturnType<GrantTable['live']> {
    return this.#table.live();
  }

  swap(a: GrantRef, b: GrantRef): number {
    const status = this.#table.swap(a, b);
    if (status === GNTST_okay && a !== b) this.#events.swapped(this.#domain, a, b);
    return status;
  }

  grow(): number {
    return this.#table.grow();
  }

  #granted(
    first: GrantRef | -1,
    count: number,
    domain: DomId,
    kind: GrantKind,
    frame: number,
    readonly: boolean,
  ): GrantRef | -1 {
    if (first < 0) {
      this.#events.refused('grant', 'full');
      return first;
    }
    for (let index = 0; index < count; index++) {
      this.#waiting.delete(first + index);
      this.#events.granted(this.#domain, first + index, domain, kind, frame + index, readonly);
    }
    return first;
  }

  #defer(ref: number): void {
    this.#waiting.add(ref);
    this.#events.deferred(this.#domain, ref);
  }

  #deferredRefs(): Set<number> {
    return new Set(
      this.#table
        .live()
        .filter(({ deferred }) => deferred)
        .map(({ ref }) => ref as number),
    );
  }
}
