import { type EvtchnPort, evtchnPort } from '@virtlab/abi/brands';
import {
  XENSTORE_CONNECTED,
  XENSTORE_RECONNECT,
  XENSTORE_SERVER_FEATURE_RECONNECTION,
} from '@virtlab/abi/xs-wire';
import type { ByteStream } from './contract.ts';
import { type RingPage, RingStream, ringWord } from './ring-stream.ts';

export { type RingPage, RingStream } from './ring-stream.ts';

/** A domain's ring page, mapped, and its event channel, bound. */
export interface XenstoreRingPort {
  readonly page: RingPage;
  /** Sends on the event channel. */
  kick(): void;
  /** `onEvent` is to be called whenever the event channel fires, from now on. */
  listen(onEvent: () => void): void;
  /** Unmaps and unbinds. */
  close(): void;
}

/** The port that the page itself names, if it does, and otherwise `named` (xs_wire.h, `evtchn_port`). */
export function pagePort(page: RingPage, named: EvtchnPort): EvtchnPort {
  const port = Atomics.load(page.u32, ringWord(page, 'evtchn_port'));
  return port === 0 ? named : evtchnPort(port);
}

const INDICES = ['req_cons', 'req_prod', 'rsp_cons', 'rsp_prod'] as const;

/** A domain's ring in the hands of the server. */
export interface ServedRing {
  /** Ends the connection, unmaps and unbinds. Idempotent. */
  close(): void;
  /** Unmaps and unbinds, but the connection goes on after `rebind`. */
  unbind(): void;
  /** The same page, mapped anew, with another event channel. */
  rebind(port: XenstoreRingPort): void;
}

/**
 * Serves a domain over its ring page: clears the indices, writes `features` into it (`announces`), and hands over the
 * stream. If reconnection is among the features, it starts anew, with another stream, whenever the domain asks for it
 * (xenstore-ring.txt, "Reconnection"). With `reportsErrors` the page says why the stream ended, if it did. With
 * `keepsIndices` only a reconnection clears the indices, and what the domain sent before is read.
 */
export function serveRing(
  port: XenstoreRingPort,
  features: number,
  accept: (stream: ByteStream) => void,
  reportsErrors: boolean = true,
  keepsIndices: boolean = false,
  announces: boolean = features !== 0,
): ServedRing {
  let bound = port;
  let { page } = port;
  let connectionWord = ringWord(page, 'connection');
  const open = (isFirst: boolean): RingStream => {
    const cleared = isFirst && keepsIndices ? [] : INDICES;
    for (const field of cleared) {
      Atomics.store(page.u32, ringWord(page, field), 0);
    }
    if (announces) Atomics.store(page.u32, ringWord(page, 'server_features'), features);
    const opened = new RingStream(page, 'server', () => bound.kick(), reportsErrors);
    if (Atomics.load(page.u32, connectionWord) === XENSTORE_RECONNECT) {
      Atomics.store(page.u32, connectionWord, XENSTORE_CONNECTED);
      bound.kick();
    }
    accept(opened);
    return opened;
  };
  const canReconnect = (features & XENSTORE_SERVER_FEATURE_RECONNECTION) !== 0;
  let isClosed = false;
  let stream = open(true);
  const onEvent = (): void => {
    if (isClosed) return;
    if (canReconnect && Atomics.load(page.u32, connectionWord) === XENSTORE_RECONNECT) {
      stream.close();
      stream = open(false);
    } else {
      stream.onEvent();
    }
  };
  port.listen(onEvent);
  return {
    close: () => {
      if (isClosed) return;
      isClosed = true;
      stream.close();
      bound.close();
    },
    unbind: () => {
      stream.suspend();
      bound.close();
    },
    rebind: (next) => {
      bound = next;
      page = next.page;
      connectionWord = ringWord(page, 'connection');
      stream.moveTo(page);
      next.listen(onEvent);
    },
  };
}

/** The domain's side of its ring. */
export interface RingClient {
  /** For `new XenstoreClient(...)`. */
  readonly stream: ByteStream;
  /** To be called whenever the event channel fires. */
  onEvent(): void;
  /**
   * Ends the stream and asks the server to start anew; the server forgets watches and transactions. Resolves with
   * the new stream. Throws `TypeError` if the server does not offer it.
   */
  reconnect(): Promise<ByteStream>;
}

/** Connects a domain to its ring page. `kick` sends on the event channel. */
export function connectRing(page: RingPage, kick: () => void): RingClient {
  const connectionWord = ringWord(page, 'connection');
  let stream = new RingStream(page, 'client', kick);
  let onReconnected: ((next: RingStream) => void) | undefined;
  return {
    get stream() {
      return stream;
    },
    onEvent: () => {
      if (onReconnected === undefined) {
        stream.onEvent();
      } else if (Atomics.load(page.u32, connectionWord) === XENSTORE_CONNECTED) {
        const resolve = onReconnected;
        onReconnected = undefined;
        stream = new RingStream(page, 'client', kick);
        resolve(stream);
      }
    },
    reconnect: () => {
      const features = Atomics.load(page.u32, ringWord(page, 'server_features'));
      if ((features & XENSTORE_SERVER_FEATURE_RECONNECTION) === 0) {
        throw new TypeError('This xenstored does not offer to reconnect a ring');
      }
      stream.close();
      return new Promise((resolve) => {
        onReconnected = resolve;
        Atomics.store(page.u32, connectionWord, XENSTORE_RECONNECT);
        kick();
      });
    },
  };
}
