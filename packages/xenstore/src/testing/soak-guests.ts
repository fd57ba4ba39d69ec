import type { DomId } from '@virtlab/abi/brands';
import { memoryRegion } from '@virtlab/guest-memory';
import type { ByteStream } from '../contract.ts';
import { type RingPage, type XenstoreRingPort, connectRing } from '../ring.ts';
import type { XenstoreDomainHost } from '../server.ts';

const PAGE_SIZE = 4096;

/** The ring pages of domains within this thread; event channels deliver in the next turn, merged. */
export class SoakGuests implements XenstoreDomainHost {
  readonly #pages = new Map<number, RingPage>();
  readonly #toDomain = new Map<number, () => void>();
  readonly #toServer = new Map<number, () => void>();
  readonly #isServedOn: (domid: number) => boolean;
  readonly #onAttached: (domid: number) => void;

  /**
   * `isServedOn` says whether the domain's connection outlives its being introduced again; otherwise it begins anew, on
   * another page, and `onAttached` is called when the server listens to it.
   */
  constructor(isServedOn: (domid: number) => boolean, onAttached: (domid: number) => void) {
    this.#isServedOn = isServedOn;
    this.#onAttached = onAttached;
  }

  /** Ports that the server holds. */
  get boundCount(): number {
    return this.#toServer.size;
  }

  attach(domid: DomId): XenstoreRingPort {
    const isServedOn = this.#isServedOn(domid);
    if (!isServedOn) this.forget(domid);
    const page = this.#page(domid);
    return {
      page,
      kick: () => later(this.#toDomain, domid),
      listen: (onEvent) => {
        this.#toServer.set(domid, onEvent);
        if (!isServedOn) this.#onAttached(domid);
      },
      close: () => void this.#toServer.delete(domid),
    };
  }

  /** The domain's own end of its ring; an earlier one is forgotten. */
  connect(domid: number): ByteStream {
    const client = connectRing(this.#page(domid), () => later(this.#toServer, domid));
    this.#toDomain.set(domid, () => client.onEvent());
    return client.stream;
  }

  /** The domain has died, or is built anew. */
  forget(domid: number): void {
    this.#pages.delete(domid);
    this.#toDomain.delete(domid);
  }

  #page(domid: number): RingPage {
    let page = this.#pages.get(domid);
    if (page === undefined) {
      page = { ...memoryRegion(new SharedArrayBuffer(PAGE_SIZE)), byteOffset: 0 };
      this.#pages.set(domid, page);
    }
    return page;
  }
}

function later(listeners: ReadonlyMap<number, () => void>, domid: number): void {
  queueMicrotask(() => listeners.get(domid)?.());
}
