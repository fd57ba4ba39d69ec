/** The doorbells of one ring: kick, call and error ("Front-end message types", SET_VRING_KICK and the two after it). */
import type { EventNotifier } from '@virtlab/aio';
import { EventFd, closeFd } from '@virtlab/linux';
import type { MessageFds } from './connection.ts';
import { type Outcome, type ProtocolFault, bad, good, protocolFault } from './fault.ts';
import type { DoorbellAioContext } from './frontend-options.ts';
import { isEventFd, isSemaphore } from './node/descriptor-kind.ts';

/** The event file descriptor of a message; undefined when none came along. Anything else that came is closed. */
export function takeEventFd(fds: MessageFds): Outcome<EventFd | undefined> {
  const fd = fds.take();
  if (fd === undefined) return good(undefined);
  if (isEventFd(fd)) return good(EventFd.fromFd(fd));
  closeFd(fd);
  return bad('BAD_FDS', 'the descriptor is no eventfd');
}

/** What wakes a ring: an eventfd in the loop, or nothing, when the ring has to be polled. */
class Kick implements Disposable {
  readonly #eventFd: EventFd;
  readonly #notifier: EventNotifier;
  readonly #handler: Disposable;

  constructor(aio: DoorbellAioContext, eventFd: EventFd, onKick: () => void) {
    this.#eventFd = eventFd;
    this.#notifier = aio.createEventFdNotifier(eventFd);
    this.#handler = aio.addHandler(this.#notifier, { onReady: onKick });
  }

  [Symbol.dispose](): void {
    this.#handler[Symbol.dispose]();
    this.#notifier[Symbol.dispose]();
    this.#eventFd.close();
  }
}

export class RingDoorbells implements Disposable {
  readonly #aio: DoorbellAioContext;
  readonly #onKick: () => void;
  #kick: Kick | undefined;
  #call: EventFd | undefined;
  #error: EventFd | undefined;
  /** The other side kicks by messages, or not at all. */
  isPolled = false;

  constructor(aio: DoorbellAioContext, onKick: () => void) {
    this.#aio = aio;
    this.#onKick = onKick;
  }

  get hasKick(): boolean {
    return this.#kick !== undefined;
  }
  get hasCall(): boolean {
    return this.#call !== undefined;
  }
  get hasError(): boolean {
    return this.#error !== undefined;
  }

  setKick(fds: MessageFds): ProtocolFault | undefined {
    const taken = takeEventFd(fds);
    if (!taken.ok) return taken.fault;
    if (taken.value !== undefined && isSemaphore(taken.value.fd)) {
      taken.value.close();
      return protocolFault(
        'BAD_FDS',
        'the eventfd is a semaphore, of which one write could wake without end',
      );
    }
    this.dropKick();
    this.isPolled = taken.value === undefined;
    if (taken.value === undefined) return undefined;
    try {
      this.#kick = new Kick(this.#aio, taken.value, this.#onKick);
      return undefined;
    } catch (error) {
      taken.value.close();
      return protocolFault('REFUSED', `the kick cannot be watched: ${String(error)}`);
    }
  }

  setCall(fds: MessageFds): ProtocolFault | undefined {
    const taken = takeEventFd(fds);
    if (!taken.ok) return taken.fault;
    this.#call?.close();
    this.#call = taken.value;
    // A call that went to the one before may have been lost with it.
    this.call();
    return undefined;
  }

  setError(fds: MessageFds): ProtocolFault | undefined {
    const taken = takeEventFd(fds);
    if (!taken.ok) return taken.fault;
    this.#error?.close();
    this.#error = taken.value;
    return undefined;
  }

  call(): void {
    this.#call?.write();
  }
  error(): void {
    this.#error?.write();
  }

  dropKick(): void {
    this.#kick?.[Symbol.dispose]();
    this.#kick = undefined;
    this.isPolled = false;
  }

  [Symbol.dispose](): void {
    this.dropKick();
    this.#call?.close();
    this.#error?.close();
    this.#call = undefined;
    this.#error = undefined;
  }
}
