import type { ByteString } from './byte-string.ts';
import type { XenstoreErrorCode } from './errors.ts';
import type { OxEngine, OxOutcome } from './ox-engine.ts';
import { oxError } from './ox-operations.ts';
import { isOxDomain0 } from './ox-permissions.ts';
import type { OxView } from './ox-view.ts';
import type { SnapshotPath } from './snapshot-node.ts';
import { canonicalPath } from './path.ts';
import type { Request } from './request.ts';

/** A request in the hands of a handler of this daemon. */
export interface OxRequest {
  readonly engine: OxEngine;
  readonly request: Request;
  /** The payload. */
  readonly text: ByteString;
  /** What its transaction works on. */
  readonly view: OxView | undefined;
}

export type OxHandler = (request: OxRequest) => OxOutcome | Promise<OxOutcome>;

const NOTHING = (): void => undefined;

export const OX_ACK: OxOutcome = { answer: { kind: 'ack' }, fire: NOTHING };

export function oxAck(fire: () => void): OxOutcome {
  return { answer: { kind: 'ack' }, fire };
}

export function oxReply(payload: ByteString): OxOutcome {
  return { answer: { kind: 'reply', payload }, fire: NOTHING };
}

export function oxFailure(code: XenstoreErrorCode): OxOutcome {
  return { answer: oxError(code), fire: NOTHING };
}

/** `split`: what stands between the NULs, the last part with all that follows the `limit`th. */
export function oxSplit(text: ByteString, limit: number = 8): ByteString[] {
  const parts: ByteString[] = [];
  let start = 0;
  while (parts.length < limit - 1) {
    const nul = text.indexOf('\0', start);
    if (nul < 0) break;
    parts.push(text.slice(start, nul));
    start = nul + 1;
  }
  parts.push(text.slice(start));
  return parts;
}

export function oxRequestPath({ engine, request }: OxRequest, text: ByteString): SnapshotPath | undefined {
  return engine.path(canonicalPath(request.connection.domain.home, text));
}

/** Whether the requester may administrate. */
export function isOxAdministrator({ request }: OxRequest): boolean {
  return isOxDomain0(request.connection);
}
