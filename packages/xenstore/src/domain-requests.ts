import { XS_FALSE, XS_TRUE } from '@virtlab/abi/xs-wire';
import { atoi } from './c-number.ts';
import { parseDomid, singleDomid } from './domain-argument.ts';
import { homePath } from './path.ts';
import { ACK, type Outcome, type Request } from './request.ts';
import { nulStrings } from './wire.ts';

/** XS_INTRODUCE. The frame number is ignored by a daemon that maps the well-known grant. */
export function introduce(request: Request): Outcome | Promise<Outcome> {
  const [domidText, gfn, portText] = nulStrings(request.payload);
  if (domidText === undefined || gfn === undefined || portText === undefined) return 'EINVAL';
  const domid = parseDomid(request, domidText);
  const port = atoi(portText) >>> 0;
  if (domid === undefined || port === 0) return 'EINVAL';
  const acknowledge = (failure: Outcome): Outcome => {
    if (failure === undefined) request.reply(ACK);
    return failure;
  };
  const outcome = request.administration.introduce(domid, atoi(gfn) >>> 0, port);
  return outcome instanceof Promise ? outcome.then(acknowledge) : acknowledge(outcome);
}

/**
 * XS_RELEASE. A domain that others have as their target is only let go by one of them, which the reply does not tell;
 * it takes as many requests as there were SET_TARGETs, and one more (`talloc_free` of what is referenced).
 */
export function release(request: Request): Outcome {
  const domid = introducedDomain(request);
  if (typeof domid === 'string') return domid;
  const { store } = request;
  const isReferenced = store.domains.dropReference(domid);
  // The daemon's loop holds the connection that it looks at next; that one goes when its turn comes.
  const isHeld = store.domains.isNextAfter(request.connection, domid);
  if (isHeld) request.reply(ACK);
  if (!isReferenced) request.administration.releaseDomain(domid);
  if (!isHeld) request.reply(ACK);
  return undefined;
}

/** XS_RESUME. */
export function resume(request: Request): Outcome {
  const domid = introducedDomain(request);
  if (typeof domid === 'string') return domid;
  request.store.domains.resume(domid);
  request.reply(ACK);
  return undefined;
}

/** XS_SET_TARGET. */
export function setTarget(request: Request): Outcome {
  const [domidText, targetText] = nulStrings(request.payload);
  if (domidText === undefined || targetText === undefined) return 'EINVAL';
  const domid = parseDomid(request, domidText);
  const target = parseDomid(request, targetText);
  if (domid === undefined || target === undefined) return 'EINVAL';
  for (const each of [domid, target]) {
    const failure = notConnected(request, each);
    if (failure !== undefined) return failure;
  }
  request.store.domains.setTarget(domid, target);
  request.reply(ACK);
  return undefined;
}

/** XS_GET_DOMAIN_PATH. Answers for any number, existing or not. */
export function getDomainPath(request: Request): Outcome {
  const domid = singleDomid(request);
  if (domid === undefined) return 'EINVAL';
  request.reply(`${homePath(domid)}\0`);
  return undefined;
}

/** XS_IS_DOMAIN_INTRODUCED. */
export function isDomainIntroduced(request: Request): Outcome {
  const domid = singleDomid(request);
  if (domid === undefined) return 'EINVAL';
  request.reply(`${request.store.domains.isIntroduced(domid) ? XS_TRUE : XS_FALSE}\0`);
  return undefined;
}

function introducedDomain(request: Request): number | 'EINVAL' | 'ENOENT' {
  const domid = singleDomid(request);
  if (domid === undefined || domid === 0) return 'EINVAL';
  return notConnected(request, domid) ?? domid;
}

/** `find_connected_domain`: EINVAL for one that is only kept because others refer to it. */
function notConnected(request: Request, domid: number): 'EINVAL' | 'ENOENT' | undefined {
  const domain = request.store.domain(domid);
  if (domain?.introduced !== true) return 'ENOENT';
  return domain.detachedTo === undefined ? undefined : 'EINVAL';
}
