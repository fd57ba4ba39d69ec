import type { DomId } from '@virtlab/abi/brands';
import type { GrantKind, Refusal } from './grant-report.ts';

/** What traced tables and mappers tell. */
export interface GrantEvents {
  granted(
    granter: DomId,
    ref: number,
    domain: DomId,
    kind: GrantKind,
    frame: number,
    readonly: boolean,
  ): void;
  /** The granter wanted to end it, but it is in use. */
  deferred(granter: DomId, ref: number): void;
  ended(granter: DomId, ref: number): void;
  swapped(granter: DomId, a: number, b: number): void;
  mapped(mapper: DomId, handle: number, granter: DomId, ref: number, writable: boolean): void;
  unmapped(mapper: DomId, handle: number): void;
  copied(count: number): void;
  refused(operation: Refusal['operation'], code: string): void;
}
