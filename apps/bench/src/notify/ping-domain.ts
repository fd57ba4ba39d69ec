// Both domains of the notification benchmark: one sends an event, the other sends one back.
import type { DomId, EvtchnPort } from '@virtlab/abi/brands';
import type { Domain } from '@virtlab/domain';
import { BoundedSpin } from '../bounded-spin.ts';
import { elapsedNs } from '../contender.ts';
import { CONSOLE_UP } from '../lab/machine.ts';

export type PingRequest =
  /** Answers a port for the other domain to bind. */
  | { readonly op: 'listen'; readonly remote: DomId }
  | { readonly op: 'bind'; readonly remote: DomId; readonly port: EvtchnPort }
  /** Answers how often the domain's loop was woken by a system call. */
  | { readonly op: 'wakeUps' }
  /** Sends and waits, so many times; answers the nanoseconds it took. With `isBusy` it looks at the pending bits without sleeping. */
  | { readonly op: 'ping'; readonly count: number; readonly isBusy: boolean }
  /** Answers at once; then looks for so many events without sleeping, and sends each back. */
  | { readonly op: 'pong'; readonly count: number };

export function boot(domain: Domain): void {
  const side = new PingSide(domain);
  domain.connection.onRequest((message) => side.serve(message as PingRequest));
  domain.console(CONSOLE_UP);
}

class PingSide {
  readonly #domain: Domain;
  #port: EvtchnPort | undefined;
  #eventCount = 0;
  /** What an event does: nothing but count, in the domain that waits for answers. */
  #onEvent: () => void = () => {};

  constructor(domain: Domain) {
    this.#domain = domain;
  }

  async serve(request: PingRequest): Promise<unknown> {
    switch (request.op) {
      case 'listen':
        this.#port = await this.#domain.events.allocUnbound(request.remote);
        this.#listen(this.#port);
        return this.#port;
      case 'bind':
        this.#port = await this.#domain.events.bindInterdomain(request.remote, request.port);
        this.#listen(this.#port);
        this.#onEvent = () => this.#send();
        return undefined;
      case 'wakeUps':
        return this.#domain.aio.statistics.wakeUps;
      case 'ping':
        return request.isBusy ? await this.#pingBusy(request.count) : await this.#ping(request.count);
      case 'pong':
        this.#inTurn(() => this.#look(request.count, () => {}));
        return undefined;
    }
  }

  #listen(port: EvtchnPort): void {
    this.#domain.events.onEvent(port, () => {
      this.#eventCount += 1;
      this.#onEvent();
    });
  }

  #send(): void {
    if (!this.#domain.events.send(this.#port!)) throw new Error('The port is closed');
  }

  async #ping(count: number): Promise<number> {
    const done = Promise.withResolvers<void>();
    const end = this.#eventCount + count;
    this.#onEvent = () => {
      if (this.#eventCount === end) done.resolve();
      else this.#send();
    };
    const start = performance.now();
    this.#send();
    await done.promise;
    const elapsed = elapsedNs(start);
    this.#onEvent = () => {};
    return elapsed;
  }

  async #pingBusy(count: number): Promise<number> {
    const done = Promise.withResolvers<number>();
    this.#inTurn(() => {
      const start = performance.now();
      this.#send();
      this.#look(count, (rest) => rest > 0 && this.#send());
      done.resolve(elapsedNs(start));
    });
    return await done.promise;
  }

  /** Within a turn of the loop nobody needs to wake this domain, so that no event costs a system call. */
  #inTurn(work: () => void): void {
    this.#domain.aio.createBottomHalf(work).schedule();
  }

  #look(count: number, afterEvent: (rest: number) => void): void {
    const { events } = this.#domain;
    const spin = new BoundedSpin();
    for (let rest = count; rest > 0;) {
      const found = events.hasPending() ? events.dispatch() : 0;
      if (found === 0) {
        spin.idle();
        continue;
      }
      spin.progress();
      rest -= found;
      afterEvent(rest);
    }
  }
}
