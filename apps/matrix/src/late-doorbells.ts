import { type AioContext, type Prng, createPrng } from '@virtlab/aio';
import type { HypervisorConnection } from '@virtlab/hypervisor';
import type { DoorbellName } from './grid.ts';

/** Longest delay of a doorbell between processes. */
const DELAY_MAX_MS = 2;

/**
 * The machine as a domain sees it whose doorbells are not calm: what a ring of the doorbell makes the domain look at is looked
 * at later, once for several rings, or once more than needed. Never is one lost.
 */
export function withDoorbells(
  connection: HypervisorConnection,
  doorbells: DoorbellName,
  seed: number,
): HypervisorConnection {
  if (doorbells === 'calm') return connection;
  const prng = createPrng(seed);
  const attachDoorbell = (aio: AioContext, poll: () => boolean): Disposable => {
    const receiver = new DoorbellReceiver(aio, poll, doorbells, prng);
    const attached = connection.attachDoorbell(aio, () => receiver.rung());
    return {
      [Symbol.dispose]: () => {
        attached[Symbol.dispose]();
        receiver[Symbol.dispose]();
      },
    };
  };
  return new Proxy(connection, {
    get: (target, name) => {
      if (name === 'attachDoorbell') return attachDoorbell;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

/** Between a doorbell and who listens to it. `poll` is called when it is heard, and answers whether there was something to do. */
export class DoorbellReceiver implements Disposable {
  readonly #poll: () => boolean;
  readonly #doorbells: DoorbellName;
  readonly #prng: Prng;
  readonly #timer: ReturnType<AioContext['createTimer']>;

  constructor(aio: AioContext, poll: () => boolean, doorbells: DoorbellName, prng: Prng) {
    this.#poll = poll;
    this.#doorbells = doorbells;
    this.#prng = prng;
    this.#timer = aio.createTimer(() => void poll());
  }

  /** The doorbell rang, or the loop is polling and asks for itself. */
  rung(): boolean {
    if (this.#doorbells === 'spurious') {
      if (this.#prng.below(4) === 0) this.#timer.arm(this.#prng.fraction() * DELAY_MAX_MS);
      return this.#poll();
    }
    // Coalescing: from the first ring on, all are one. Late: each takes its own time, and those before it are not waited for.
    if (this.#doorbells === 'coalescing' && this.#timer.armed) return false;
    if (this.#doorbells === 'late' && this.#timer.armed) this.#poll();
    this.#timer.arm(this.#prng.fraction() * DELAY_MAX_MS);
    return false;
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]();
  }
}
