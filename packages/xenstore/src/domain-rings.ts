import { type DomId, type EvtchnPort, domId, evtchnPort } from '@virtlab/abi/brands';
import { XENSTORE_SERVER_FEATURE_ERROR } from '@virtlab/abi/xs-wire';
import type { ByteStream } from './contract.ts';
import { isUnprivilegedDomain } from './domain-table.ts';
import type { XenstoreErrorCode } from './errors.ts';
import type { Outcome } from './request.ts';
import { type RingPage, type ServedRing, type XenstoreRingPort, pagePort, serveRing } from './ring.ts';
import type { StoreIdentity, XenstoreStore } from './store.ts';

/** What INTRODUCE found: the domain's ring, or why it has none, or that it needs none. */
export type XenstoreAttachment = XenstoreRingPort | XenstoreErrorCode | undefined;

/**
 * The port to bind to, once the page is mapped: that in the page where the daemon prefers it (xs_wire.h,
 * `evtchn_port`), otherwise the one of the request.
 */
export type PagePort = (page: RingPage) => EvtchnPort;

/** The daemon's door to the hypervisor. */
export interface XenstoreDomainHost {
  /**
   * INTRODUCE: maps the ring page and binds to the domain's unbound `port`. An error code is passed on to the
   * requester; undefined introduces the domain without a ring, when it connects by other means.
   */
  attach(
    domid: DomId,
    gfn: number,
    port: EvtchnPort,
    portOf: PagePort,
  ): XenstoreAttachment | Promise<XenstoreAttachment>;
}

/** The rings of the introduced domains: INTRODUCE as the profile has it, and the end of each. */
export class DomainRings {
  readonly #store: XenstoreStore;
  readonly #host: XenstoreDomainHost | undefined;
  readonly #accept: (stream: ByteStream, identity: StoreIdentity) => void;
  readonly #rings = new Map<number, ServedRing>();

  /** Without `host` domains are introduced without a ring. `accept` gets each stream that a ring opens. */
  constructor(
    store: XenstoreStore,
    host: XenstoreDomainHost | undefined,
    accept: (stream: ByteStream, identity: StoreIdentity) => void,
  ) {
    this.#store = store;
    this.#host = host;
    this.#accept = accept;
  }

  has(domid: number): boolean {
    return this.#rings.has(domid);
  }

  introduce(domid: number, gfn: number, port: number): Outcome | Promise<Outcome> {
    if (domid > 0xffff) return 'EINVAL';
    if (this.#store.domain(domid)?.isIgnored === true) return undefined;
    const served = this.#rings.get(domid);
    if (served !== undefined && this.#store.profile.ringSurvivesIntroduce) {
      return this.#rebind(served, domid, gfn, port);
    }
    this.close(domid); // introduced again: its port and watches go before it gets new ones
    const isKnown = this.#store.domain(domid)?.introduced === true;
    const named = evtchnPort(port);
    const usesPage = this.#store.profile.usesPagePort && !isKnown;
    const portOf = (page: RingPage): EvtchnPort => (usesPage ? pagePort(page, named) : named);
    return settled(this.#host?.attach(domId(domid), gfn, named, portOf), (ring) => {
      // A domain that is introduced anew stays so even if its port cannot be bound again (`introduce_domain`).
      if (typeof ring === 'string') return isKnown ? undefined : ring;
      this.#store.domains.introduce(domid);
      if (ring !== undefined) this.#serve(ring, domid, isKnown);
      return undefined;
    });
  }

  /** Ends the domain's ring, if it has one. */
  close(domid: number): void {
    const ring = this.#rings.get(domid);
    this.#rings.delete(domid);
    ring?.close();
  }

  closeAll(): void {
    for (const domid of this.#rings.keys()) this.close(domid);
  }

  /** The event channel anew; the connection goes on as it is. */
  #rebind(served: ServedRing, domid: number, gfn: number, port: number): Outcome | Promise<Outcome> {
    served.unbind();
    const named = evtchnPort(port);
    return settled(
      this.#host?.attach(domId(domid), gfn, named, () => named),
      (ring) => {
        if (typeof ring === 'string') return ring;
        if (ring !== undefined) served.rebind(ring);
        return undefined;
      },
    );
  }

  /** The page of a domain that `isKnown` says already what it is offered. */
  #serve(ring: XenstoreRingPort, domid: number, isKnown: boolean): void {
    const identity = { domid, privileged: !isUnprivilegedDomain(domid) };
    const features = this.#store.domain(domid)?.features ?? 0;
    const { profile } = this.#store;
    const isOffered = (features & XENSTORE_SERVER_FEATURE_ERROR) !== 0;
    const reportsErrors = profile.ringErrors === 'always' || isOffered;
    const accept = (stream: ByteStream): void => this.#accept(stream, identity);
    const announces = profile.serverFeatures !== 0 && !isKnown;
    const { ringSurvivesIntroduce } = profile;
    this.#rings.set(
      domid,
      serveRing(ring, features, accept, reportsErrors, ringSurvivesIntroduce, announces),
    );
  }
}

function settled(
  attached: XenstoreAttachment | Promise<XenstoreAttachment>,
  finish: (ring: XenstoreAttachment) => Outcome,
): Outcome | Promise<Outcome> {
  return attached instanceof Promise ? attached.then(finish) : finish(attached);
}
