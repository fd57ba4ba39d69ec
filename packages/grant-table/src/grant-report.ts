import type { DomId, GrantHandle, GrantRef } from '@virtlab/abi/brands';

export type GrantKind = 'page' | 'sub-page' | 'transitive';

/** A grant that has not ended, and who holds it. */
export interface GrantLife {
  readonly granter: DomId;
  readonly ref: GrantRef;
  /** To whom. */
  readonly domain: DomId;
  readonly kind: GrantKind;
  /** Of the granter's RAM; the reference that is passed on for a transitive one. */
  readonly frame: number;
  readonly readonly: boolean;
  /** Who was at work, by `GrantTracerOptions.origin`. */
  readonly origin: string | undefined;
  readonly ageMs: number;
  /** Since the granter wanted to end it, if it did. */
  readonly waitingMs: number | undefined;
  readonly mappings: readonly MappingLife[];
}

/** A mapping that has not ended. */
export interface MappingLife {
  readonly mapper: DomId;
  readonly granter: DomId;
  readonly ref: GrantRef;
  readonly handle: GrantHandle;
  readonly writable: boolean;
  readonly origin: string | undefined;
  readonly ageMs: number;
}

export interface Refusal {
  readonly operation: 'map' | 'unmap' | 'copy' | 'end' | 'grant';
  /** C spelling of the status; `in use` and `full` for what has none. */
  readonly code: string;
  readonly count: number;
}

export interface GrantReport {
  /** Grants that outlived the report's limit, oldest first; mappings of grants that were not traced apart. */
  readonly grants: readonly GrantLife[];
  readonly foreignMappings: readonly MappingLife[];
  readonly refusals: readonly Refusal[];
  readonly grantTotal: number;
  readonly mapTotal: number;
  readonly copyTotal: number;
  /** Longest life of what has ended. */
  readonly grantMsMax: number;
  readonly mapMsMax: number;
}

/** The report for a reader: one line a grant, its mappings below. */
export function formatGrantReport(report: GrantReport): string {
  const { grants, foreignMappings, refusals } = report;
  const lines = grants.flatMap((grant) => [formatGrant(grant), ...grant.mappings.map(formatMapping)]);
  if (foreignMappings.length > 0) {
    lines.push('mappings of grants that were not traced:', ...foreignMappings.map(formatMapping));
  }
  for (const { operation, code, count } of refusals)
    lines.push(`refused: ${operation} ${code}, ${count} times`);
  const { grantTotal, mapTotal, copyTotal, grantMsMax, mapMsMax } = report;
  lines.push(
    `${grants.length} of ${grantTotal} grants live (longest that ended: ${formatMs(grantMsMax)}), ` +
      `${mapTotal} mappings made (longest: ${formatMs(mapMsMax)}), ${copyTotal} copies`,
  );
  return `${lines.join('\n')}\n`;
}

function formatGrant(grant: GrantLife): string {
  const { granter, ref, domain, kind, frame, readonly, origin, ageMs, waitingMs, mappings } = grant;
  const what = kind === 'transitive' ? `passes on reference ${frame}` : `${kind} of frame ${frame}`;
  const state = [
    waitingMs === undefined ? undefined : `waiting to end for ${formatMs(waitingMs)}`,
    mappings.length === 0 ? 'not mapped' : `mapped ${mappings.length} times`,
  ].filter((each) => each !== undefined);
  return (
    `domain ${granter} grant ${ref} to domain ${domain}: ${what}, ${readonly ? 'read-only' : 'writable'}, ` +
    `${formatMs(ageMs)} old${origin === undefined ? '' : ` (${origin})`}, ${state.join(', ')}`
  );
}

function formatMapping({ mapper, granter, ref, handle, writable, origin, ageMs }: MappingLife): string {
  return (
    `  domain ${mapper} handle ${handle} on ${granter}:${ref}, ${writable ? 'writable' : 'read-only'}, ` +
    `for ${formatMs(ageMs)}${origin === undefined ? '' : ` (${origin})`}`
  );
}

function formatMs(ms: number): string {
  return ms < 1000 ? `${Number(ms.toFixed(3))} ms` : `${Number((ms / 1000).toFixed(2))} s`;
}
