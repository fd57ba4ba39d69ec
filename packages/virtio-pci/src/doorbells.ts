import type { AioContext, EventNotifier } from '@virtlab/aio';
import type { PciBus } from './pci-bus.ts';
import type { DoorbellRegistrar, NotifyAddress } from './pci-function.ts';

/**
 * Driver side of a doorbell: asks once, when a queue is set up, for a way to kick it that is leaner than a trapped
 * write to `address` (a shared word and a wake-up). Undefined where there is none.
 */
export interface KickPath {
  kickFor(address: number, queue: number): (() => void) | undefined;
}

/** The ioeventfds of one in-process bus: a kick sets a notifier of the device's context instead of trapping. */
export interface PciDoorbells extends KickPath {
  /** What the function at `bdf` registers with. */
  registrarFor(bdf: number): DoorbellRegistrar;
}

/** `aio` is the device's context: `onRing` runs there. */
export function createPciDoorbells(bus: Pick<PciBus, 'resolve'>, aio: AioContext): PciDoorbells {
  const doorbells = new Map<string, Doorbell>();
  return {
    registrarFor: (bdf) => ({
      register: (address, onRing) => {
        const key = keyOf(bdf, address.bar, address.offset);
        if (doorbells.has(key)) throw new RangeError(`A doorbell at ${key} exists`);
        const doorbell = new Doorbell(address, aio, onRing, () => doorbells.delete(key));
        doorbells.set(key, doorbell);
        return doorbell;
      },
    }),
    kickFor: (address, queue) => {
      const location = bus.resolve(address);
      if (location === undefined) return undefined;
      const doorbell = doorbells.get(keyOf(location.bdf, location.bar, location.offset));
      return doorbell?.queue === queue ? () => doorbell.ring() : undefined;
    },
  };
}

class Doorbell implements Disposable {
  readonly queue: number;
  readonly #notifier: EventNotifier;
  readonly #handler: Disposable;
  readonly #onDisposed: () => void;
  #live = true;

  constructor({ queue }: NotifyAddress, aio: AioContext, onRing: () => void, onDisposed: () => void) {
    const notifier = aio.createEventNotifier();
    this.queue = queue;
    this.#notifier = notifier;
    this.#onDisposed = onDisposed;
    this.#handler = aio.addHandler(notifier, {
      onReady: () => {
        notifier.testAndClear();
        onRing();
      },
    });
  }

  /** Drivers may hold on to a doorbell whose device is gone: then it is silent. */
  ring(): void {
    if (this.#live) this.#notifier.set();
  }

  [Symbol.dispose](): void {
    if (!this.#live) return;
    this.#live = false;
    this.#handler[Symbol.dispose]();
    this.#notifier[Symbol.dispose]();
    this.#onDisposed();
  }
}

function keyOf(bdf: number, bar: number, offset: number): string {
  return `${bdf}:${bar}:${offset}`;
}
