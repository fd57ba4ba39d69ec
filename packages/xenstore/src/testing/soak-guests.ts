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
  readonly #onAttached: (domid: number) => void;

  /** `onAttached` is called when the server begins to serve a domain, also when it does so anew. */
  constructor(onAttached: (domid: number) => void) {
    this.#onAttached = onAttached;
  }

  /** Ports that the server holds. */
  get boundCount(): number {
    return this.#toServer.size;
  }

  attach(domid: DomId): XenstoreRingPort {
    const page = this.#page(domid);
    return {
      page,
      kick: () => later(this.#toDomain, domid),
      listen: (onEvent) => {
        this.#toServer.set(domid, onEvent);
        this.#onAttached(domid);
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
