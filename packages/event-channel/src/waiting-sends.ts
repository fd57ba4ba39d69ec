import type { DomId } from '@virtlab/abi/brands';
import type { EventTarget } from './contract.ts';

/** How a domain reaches the pages of others. */
export interface EventPeers {
  /** The target of a connected domain; looked up on every send, so cheap. */
  target(domain: DomId): EventTarget | undefined;
  /** Maps the target of a domain; asked once for all sends that wait for it. May reject: the domain is gone. */
  connect(domain: DomId): Promise<EventTarget>;
}

/** Local ports that were sent on while their peer was being connected: each is sent on once when it is. */
export class WaitingSends {
  readonly #peers: EventPeers;
  readonly #deliver: (domain: DomId, port: number, target: EventTarget) => void;
  readonly #waiting = new Map<DomId, Set<number>>();

  constructor(peers: EventPeers, deliver: (domain: DomId, port: number, target: EventTarget) => void) {
    this.#peers = peers;
    this.#deliver = deliver;
  }

  add(domain: DomId, port: number): void {
    const waiting = this.#waiting.get(domain);
    if (waiting !== undefined) {
      waiting.add(port);
      return;
    }
    this.#waiting.set(domain, new Set([port]));
    void this.#connect(domain);
  }

  async #connect(domain: DomId): Promise<void> {
    let target: EventTarget | undefined;
    try {
      target = await this.#peers.connect(domain);
    } catch {
      // The peer is gone, and with it what the event was for.
    }
    const ports = this.#waiting.get(domain) ?? [];
    this.#waiting.delete(domain);
    if (target === undefined) return;
    for (const port of ports) this.#deliver(domain, port, target);
  }
}
