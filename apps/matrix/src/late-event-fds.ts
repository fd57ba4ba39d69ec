import type { AioHandler, EventNotifier } from '@virtlab/aio';
import { createPrng } from '@virtlab/aio';
import { type NodeAioContext, createNodeAioContext } from '@virtlab/aio/node';
import type { EventFd } from '@virtlab/linux';
import type { DoorbellName } from './grid.ts';
import { DoorbellReceiver } from './late-doorbells.ts';

/**
 * A loop whose eventfds are not calm: what a write to one makes it look at is looked at later, once for several writes, or once
 * more than needed. Never is one lost. Such a loop has no pollers, which would find the work that a doorbell is late for.
 */
export function createDoorbellContext(doorbells: DoorbellName, seed: number): NodeAioContext {
  if (doorbells === 'calm') return createNodeAioContext();
  const aio = createNodeAioContext();
  const prng = createPrng(seed);
  const eventFds = new WeakSet<EventNotifier>();
  const createEventFdNotifier = (eventFd: EventFd): EventNotifier => {
    const notifier = aio.createEventFdNotifier(eventFd);
    eventFds.add(notifier);
    return notifier;
  };
  const addHandler = (notifier: EventNotifier, handler: AioHandler): Disposable => {
    if (!eventFds.has(notifier)) return aio.addHandler(notifier, handler);
    const look = (): boolean => {
      handler.onReady();
      return true;
    };
    const receiver = new DoorbellReceiver(aio, look, doorbells, prng);
    const onReady = (): void => {
      // Half of the late ones are on time, between those that are not.
      if (doorbells === 'late' && prng.below(2) === 0) handler.onReady();
      else receiver.rung();
    };
    const added = aio.addHandler(notifier, { onReady });
    return {
      [Symbol.dispose]: () => {
        added[Symbol.dispose]();
        receiver[Symbol.dispose]();
      },
    };
  };
  const addPoller = (): Disposable => ({ [Symbol.dispose]: () => {} });
  const own: Readonly<Record<PropertyKey, unknown>> = { createEventFdNotifier, addHandler, addPoller };
  return new Proxy(aio, {
    get: (target, name) => {
      if (Object.hasOwn(own, name)) return own[name];
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}
