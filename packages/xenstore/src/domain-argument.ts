import { atoi, strictDomid } from './c-number.ts';
import type { Request } from './request.ts';
import { singleString } from './wire.ts';

/** A domain's number out of a request, as the profile reads them; undefined: EINVAL. */
export function parseDomid(request: Request, text: string): number | undefined {
  return request.store.profile.domidSyntax === 'decimal' ? strictDomid(text) : atoi(text) >>> 0;
}

/** The number in a payload that has nothing else. */
export function singleDomid(request: Request): number | undefined {
  const text = singleString(request.payload);
  return text === undefined ? undefined : parseDomid(request, text);
}
