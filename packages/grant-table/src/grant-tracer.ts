import { type DomId, domId, grantHandle, grantRef } from '@virtlab/abi/brands';
import type { CopyingGrantMapper, VersionedGrantTable } from './contract.ts';
import type { GrantEvents } from './grant-events.ts';
import type { GrantKind, GrantLife, GrantReport, MappingLife, Refusal } from './grant-report.ts';
import { TracedMapper } from './traced-mapper.ts';
import { TracedTable } from './traced-table.ts';

export interface GrantTracerOptions {
  /** Monotonic milliseconds. */
  readonly now: () => number;
  /** Who is at work, for instance a device's name: asked for every grant and mapping that is made. */
  readonly origin?: () => string | undefined;
}

interface GrantRecord {
  readonly domain: DomId;
  readonly kind: GrantKind;
  readonly frame: number;
  readonly readonly: boolean;
  readonly origin: string | undefined;
  readonly since: number;
  waitingSince: number | undefined;
}

interface MappingRecord {
  readonly granter: DomId;
  readonly ref: number;
  readonly writable: boolean;
  readonly origin: string | undefined;
  readonly since: number;
}

/** Domain ids in the upper bits of a key, references and handles in the lower 32. */
const KEY_UNIT: number = 2 ** 32;

function keyOf(domain: number, id: number): number {
  return domain * KEY_UNIT + id;
}

/**
 * Keeps who granted what to whom, who mapped it, and for how long, of the tables and mappers that are wrapped with it. What is
 * not wrapped pays nothing: there is no hook in it. Not for a data plane that is being measured: it allocates.
 */
export class GrantTracer implements GrantEvents {
  readonly #now: () => number;
  readonly #origin: () => string | undefined;
  readonly #grants = new Map<number, GrantRecord>();
  readonly #mappings = new Map<number, MappingRecord>();
  readonly #refusals = new Map<string, number>();
  #grantTotal = 0;
  #mapTotal = 0;
  #copyTotal = 0;
  #grantMsMax = 0;
  #mapMsMax = 0;

  constructor({ now, origin = () => undefined }: GrantTracerOptions) {
    this.#now = now;
    this.#origin = origin;
  }

  /** A table that does what `table` does and tells this tracer. The caller uses it in its place. */
  traceTable(domain: DomId, table: VersionedGrantTable): VersionedGrantTable {
    return new TracedTable(this, domain, table);
  }

  /** The same for a mapper. */
  traceMapper(domain: DomId, mapper: CopyingGrantMapper): CopyingGrantMapper {
    return new TracedMapper(this, domain, mapper);
  }

  /** What lives for at least `minAgeMs` (default 0: everything that lives), and the totals. */
  report(minAgeMs: number = 0): GrantReport {
    const now = this.#now();
    const mappings = [...this.#mappings].map(([key, record]) => mappingLife(key, record, now));
    const byGrant = Map.groupBy(mappings, ({ granter, ref }) => keyOf(granter, ref));
    const grants = [...this.#grants]
      .map(([key, record]) => grantLife(key, record, now, byGrant.get(key) ?? []))
      .filter(({ ageMs }) => ageMs >= minAgeMs)
      .toSorted((a, b) => b.ageMs - a.ageMs);
    return {
      grants,
      foreignMappings: mappings.filter(
        ({ granter, ref, ageMs }) => !this.#grants.has(keyOf(granter, ref)) && ageMs >= minAgeMs,
      ),
      refusals: [...this.#refusals].map(([key, count]) => refusalOf(key, count)),
      grantTotal: this.#grantTotal,
      mapTotal: this.#mapTotal,
      copyTotal: this.#copyTotal,
      grantMsMax: this.#grantMsMax,
      mapMsMax: this.#mapMsMax,
    };
  }

  granted(
    granter: DomId,
    ref: number,
    domain: DomId,
    kind: GrantKind,
    frame: number,
    readonly: boolean,
  ): void {
    this.ended(granter, ref); // the table reclaimed it by itself
    this.#grantTotal += 1;
    const since = this.#now();
    const origin = this.#origin();
    this.#grants.set(keyOf(granter, ref), {
      domain,
      kind,
      frame,
      readonly,
      origin,
      since,
      waitingSince: undefined,
    });
  }

  deferred(granter: DomId, ref: number): void {
    const record = this.#grants.get(keyOf(granter, ref));
    if (record !== undefined) record.waitingSince ??= this.#now();
  }

  ended(granter: DomId, ref: number): void {
    const key = keyOf(granter, ref);
    const record = this.#grants.get(key);
    if (record === undefined) return;
    this.#grants.delete(key);
    this.#grantMsMax = Math.max(this.#grantMsMax, this.#now() - record.since);
  }

  swapped(granter: DomId, a: number, b: number): void {
    const [keyA, keyB] = [keyOf(granter, a), keyOf(granter, b)];
    const [recordA, recordB] = [this.#grants.get(keyA), this.#grants.get(keyB)];
    this.#grants.delete(keyA);
    this.#grants.delete(keyB);
    if (recordB !== undefined) this.#grants.set(keyA, recordB);
    if (recordA !== undefined) this.#grants.set(keyB, recordA);
  }

  mapped(mapper: DomId, handle: number, granter: DomId, ref: number, writable: boolean): void {
    this.#mapTotal += 1;
    const record = { granter, ref, writable, origin: this.#origin(), since: this.#now() };
    this.#mappings.set(keyOf(mapper, handle), record);
  }

  unmapped(mapper: DomId, handle: number): void {
    const key = keyOf(mapper, handle);
    const record = this.#mappings.get(key);
    if (record === undefined) return;
    this.#mappings.delete(key);
    this.#mapMsMax = Math.max(this.#mapMsMax, this.#now() - record.since);
  }

  copied(count: number): void {
    this.#copyTotal += count;
  }

  refused(operation: Refusal['operation'], code: string): void {
    const key = `${operation} ${code}`;
    this.#refusals.set(key, (this.#refusals.get(key) ?? 0) + 1);
  }
}

function mappingLife(key: number, record: MappingRecord, now: number): MappingLife {
  const { granter, ref, writable, origin, since } = record;
  return {
    mapper: domId(Math.floor(key / KEY_UNIT)),
    granter,
    ref: grantRef(ref),
    handle: grantHandle(key % KEY_UNIT),
    writable,
    origin,
    ageMs: now - since,
  };
}

function grantLife(
  key: number,
  record: GrantRecord,
  now: number,
  mappings: readonly MappingLife[],
): GrantLife {
  const { domain, kind, frame, readonly, origin, since, waitingSince } = record;
  return {
    granter: domId(Math.floor(key / KEY_UNIT)),
    ref: grantRef(key % KEY_UNIT),
    domain,
    kind,
    frame,
    readonly,
    origin,
    ageMs: now - since,
    waitingMs: waitingSince === undefined ? undefined : now - waitingSince,
    mappings,
  };
}

function refusalOf(key: string, count: number): Refusal {
  const at = key.indexOf(' ');
  return { operation: key.slice(0, at) as Refusal['operation'], code: key.slice(at + 1), count };
}
