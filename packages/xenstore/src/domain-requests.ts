import { XS_FALSE, XS_TRUE } from '@virtlab/abi/xs-wire';
import { atoi } from './c-number.ts';
import { homePath } from './path.ts';
import { ACK, type Outcome, type Request } from './request.ts';
import { nulStrings, singleString } from './wire.ts';

/** XS_INTRODUCE. The frame number is ignored by a daemon that maps the well-known grant. */
export function introduce(request: Request): Outcome | Promise<Outcome> {
  const [domid, gfn, port] = nulStrings(request.payload);
  if (domid === undefined || gfn === undefined || port === undefined) return 'EINVAL';
  if (atoi(port) === 0) return 'EINVAL';
  const acknowledge = (failure: Outcome): Outcome => {
    if (failure === undefined) request.reply(ACK);
    return failure;
  };
  const outcome = request.administration.introduce(unsigned(domid), unsigned(gfn), unsigned(port));
  return outcome instanceof Promise ? outcome.then(acknowledge) : acknowledge(outcome);
}

/** XS_RELEASE. */
export function release(request: Request): Outcome {
  const domid = introducedDomain(request);
  if (typeof domid === 'string') return domid;
  request.administration.releaseDomain(domid);
  request.reply(ACK);
  return undefined;
}

/** XS_RESUME. */
export function resume(request: Request): Outcome {
  const domid = introducedDomain(request);
  if (typeof domid === 'string') return domid;
  request.store.resume(domid);
  request.reply(ACK);
  return undefined;
}

/** XS_SET_TARGET. */
export function setTarget(request: Request): Outcome {
  const [domid, target] = nulStrings(request.payload);
  if (domid === undefined || target === undefined) return 'EINVAL';
  for (const text of [domid, target]) {
    if (request.store.domain(unsigned(text))?.introduced !== true) return 'ENOENT';
  }
  request.store.setTarget(unsigned(domid), unsigned(target));
  request.reply(ACK);
  return undefined;
}

/** XS_GET_DOMAIN_PATH. Answers for any number, existing or not. */
export function getDomainPath(request: Request): Outcome {
  const domid = singleString(request.payload);
  if (domid === undefined) return 'EINVAL';
  request.reply(`${homePath(unsigned(domid))}\0`);
  return undefined;
}

/** XS_IS_DOMAIN_INTRODUCED. */
export function isDomainIntroduced(request: Request): Outcome {
  const domid = singleString(request.payload);
  if (domid === undefined) return 'EINVAL';
  request.reply(`${request.store.isIntroduced(unsigned(domid)) ? XS_TRUE : XS_FALSE}\0`);
  return undefined;
}

function introducedDomain(request: Request): number | 'EINVAL' | 'ENOENT' {
  const text = singleString(request.payload);
  const domid = text === undefined ? 0 : unsigned(text);
  if (domid === 0) return 'EINVAL';
  return request.store.domain(domid)?.introduced === true ? domid : 'ENOENT';
}

function unsigned(text: string): number {
  return atoi(text) >>> 0;
}
