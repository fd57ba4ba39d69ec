import { DOMID_SELF } from '@virtlab/abi/xen';
import { XS_FALSE, XS_TRUE } from '@virtlab/abi/xs-wire';
import type { XenstoreErrorCode } from './errors.ts';
import type { OxOutcome } from './ox-engine.ts';
import { oxFirstInteger, oxInteger, oxNativeInteger, oxUnsigned } from './ox-number.ts';
import { OX_ACK, type OxRequest, isOxAdministrator, oxFailure, oxReply, oxSplit } from './ox-request.ts';

/**
 * XS_INTRODUCE. Whatever goes wrong is EINVAL, but for a frame that is no number. A domain that is known already must
 * come with the frame it had, and gets its event channel bound anew; if that fails it is EIO. Domain 0 has no ring here.
 */
export function oxIntroduce(request: OxRequest): OxOutcome | Promise<OxOutcome> {
  if (!isOxAdministrator(request)) return oxFailure('EACCES');
  const [domidText, gfnText, portText] = oxSplit(request.text);
  if (domidText === undefined || gfnText === undefined || portText === undefined) return oxFailure('EINVAL');
  const port = oxInteger(portText);
  if (port === undefined) return oxFailure('EINVAL');
  const gfn = oxNativeInteger(gfnText);
  if (gfn === undefined) return oxFailure('EIO');
  const domid = oxInteger(domidText);
  if (domid === undefined || domid < 0 || port < 0) return oxFailure('EINVAL');
  const { engine } = request;
  const { administration, store } = request.request;
  const isKnown = store.domain(domid)?.introduced === true;
  if (isKnown && (engine.introduced.get(domid)?.gfn ?? gfn) !== gfn) return oxFailure('EINVAL');
  const finish = (failure: XenstoreErrorCode | undefined): OxOutcome => {
    if (failure !== undefined) return oxFailure(isKnown ? 'EIO' : 'EINVAL');
    engine.introduced.set(domid, { gfn, port });
    return engine.watches.isMuted && !isKnown ? oxFailure('EINVAL') : OX_ACK;
  };
  if (domid === 0) return oxFailure('EIO');
  if (engine.isPortLeft(domid, port)) return oxFailure('EINVAL');
  const outcome = administration.introduce(domid, Number(BigInt.asUintN(32, gfn)), port);
  return outcome instanceof Promise ? outcome.then(finish) : finish(outcome);
}

/**
 * XS_RELEASE. What the number owns disappears even if no such domain was introduced. For domain 0 that is the store, and
 * the answer ENOENT: the daemon then misses the connection that events about domains come from.
 */
export function oxRelease(request: OxRequest): OxOutcome {
  if (!isOxAdministrator(request)) return oxFailure('EACCES');
  const [text, rest, ...excess] = oxSplit(request.text);
  const domid = rest === '' && excess.length === 0 ? oxInteger(text!) : undefined;
  if (domid === undefined) return oxFailure('EINVAL');
  const { engine } = request;
  const { administration, store } = request.request;
  const domain = store.domain(domid);
  const isKnown = domain?.introduced === true;
  if (isKnown && domid !== 0) {
    const { port, gfn } = engine.introduced.get(domid) ?? {};
    administration.releaseDomain(domid);
    if (port !== undefined && gfn !== undefined) engine.introduced.set(domid, { gfn, port });
    engine.leavePort(domid);
    return engine.watches.isMuted ? oxFailure('ENOENT') : OX_ACK;
  }
  engine.removeDomain(domid);
  if (!isKnown) return oxFailure('EINVAL');
  domain.introduced = false;
  engine.watches.isMuted = true;
  return oxFailure('ENOENT');
}

/** XS_RESUME. */
export function oxResume(request: OxRequest): OxOutcome {
  if (!isOxAdministrator(request)) return oxFailure('EACCES');
  const domid = oxInteger(oxSplit(request.text)[0]!);
  if (domid === undefined || request.request.store.domain(domid)?.introduced !== true) {
    return oxFailure('EINVAL');
  }
  request.request.store.domains.resume(domid);
  return OX_ACK;
}

/** XS_IS_DOMAIN_INTRODUCED. */
export function oxIsIntroduced(request: OxRequest): OxOutcome {
  if (!isOxAdministrator(request)) return oxFailure('EACCES');
  const domid = oxInteger(oxSplit(request.text)[0]!);
  if (domid === undefined) return oxFailure('EINVAL');
  const isKnown = domid === DOMID_SELF || request.request.store.domain(domid)?.introduced === true;
  return oxReply(`${isKnown ? XS_TRUE : XS_FALSE}\0`);
}

/** XS_SET_TARGET. The target need not exist. */
export function oxSetTarget(request: OxRequest): OxOutcome {
  if (!isOxAdministrator(request)) return oxFailure('EACCES');
  const [domidText, targetText, rest, ...excess] = oxSplit(request.text);
  if (domidText === undefined || targetText === undefined || rest !== '' || excess.length > 0) {
    return oxFailure('EINVAL');
  }
  const { store } = request.request;
  const domid = Number(oxFirstInteger(domidText));
  if (store.domain(domid)?.introduced !== true) return oxFailure('ENOENT');
  store.domains.setTarget(domid, Number(oxFirstInteger(targetText)));
  return OX_ACK;
}

/** XS_GET_DOMAIN_PATH. */
export function oxGetDomainPath({ text }: OxRequest): OxOutcome {
  const [domid, rest, ...excess] = oxSplit(text);
  if (rest !== '' || excess.length > 0) return oxFailure('EINVAL');
  return oxReply(`/local/domain/${oxUnsigned(oxFirstInteger(domid!))}\0`);
}
