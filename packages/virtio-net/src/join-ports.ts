import { ACCEPT_ALL } from './frame-offload.ts';
import type { FrameReceiver, FrameView, NetPort } from './network.ts';

export interface JoinOptions {
  /** `ACCEPT_*`: what `b` finds least work in. Default all. */
  readonly acceptB?: number;
  /** The same for `a`. */
  readonly acceptA?: number;
}

/**
 * A cable: what arrives at one port leaves at the other, unfinished frames as they are; a port without room makes the other
 * hold frames back, if it can. Disposing takes both receivers away. Throws `TypeError` when a port has one already.
 */
export function joinPorts(a: NetPort, b: NetPort, options: JoinOptions = {}): Disposable {
  connect(a, b, options.acceptB ?? ACCEPT_ALL);
  try {
    connect(b, a, options.acceptA ?? ACCEPT_ALL);
  } catch (error) {
    a.attach(undefined);
    throw error;
  }
  return {
    [Symbol.dispose]: () => {
      for (const port of [a, b]) {
        port.attach(undefined);
        port.onReady?.(undefined);
      }
    },
  };
}

function connect(from: NetPort, to: NetPort, accept: number): void {
  from.attach(new Plug(to));
  from.expect?.(accept);
  to.onReady?.(() => from.resume?.());
}

class Plug implements FrameReceiver {
  readonly #to: NetPort;

  constructor(to: NetPort) {
    this.#to = to;
  }

  receive(frame: FrameView): boolean {
    this.#to.transmit(frame);
    return true;
  }
  flush(): void {
    this.#to.flush();
  }
  isReady(): boolean {
    return this.#to.isReady?.() ?? true;
  }
}
