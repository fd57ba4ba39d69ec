import type { AioContext, Timer } from '@virtlab/aio';
import { LinuxError, UnixStream, UnixStreamServer } from '@virtlab/linux';
import { type LearningSwitch, joinPorts } from '@virtlab/virtio-net';
import { createStreamPort } from '@virtlab/virtio-net/node';
import type { Report } from './report.ts';

/** Room for a burst of the largest frames. */
const HIGH_WATER = 4 << 20;
const RETRY_MS = 500;

export interface StreamJoinOptions {
  readonly path: string;
  readonly network: LearningSwitch;
  readonly aio: AioContext;
  readonly report: (report: Report) => void;
}

/**
 * Stations that reach the switch through a socket, as QEMU's `-netdev stream`, passt and other switches do. Where somebody
 * listens, this connects; else it listens, and takes all who come. When the other side that it was connected to leaves, it tries
 * again both ways.
 */
export class StreamJoin implements Disposable {
  readonly #options: StreamJoinOptions;
  readonly #retry: Timer;
  readonly #leave = new Set<() => void>();
  #server: UnixStreamServer | undefined;
  #count = 0;

  /** Throws `LinuxError` where there can be no socket. */
  constructor(options: StreamJoinOptions) {
    this.#options = options;
    this.#retry = options.aio.createTimer(() => this.#startAgain());
    this.#start();
  }

  [Symbol.dispose](): void {
    this.#retry[Symbol.dispose]();
    this.#server?.close();
    for (const leave of this.#leave) leave();
  }

  #start(): void {
    const { path } = this.#options;
    let stream = connect(path);
    if (stream === undefined) {
      try {
        this.#server = UnixStreamServer.listen(path, (each) => this.#join(each, () => {}), {
          highWater: HIGH_WATER,
        });
        return;
      } catch (error) {
        // Somebody else may have been the first to find that nobody listens.
        if (error instanceof LinuxError && error.code === 'EADDRINUSE') stream = connect(path);
        if (stream === undefined) throw error;
      }
    }
    this.#join(stream, () => this.#retry.arm(RETRY_MS));
  }

  #startAgain(): void {
    try {
      this.#start();
    } catch {
      this.#retry.arm(RETRY_MS);
    }
  }

  #join(stream: UnixStream, onLeft: () => void): void {
    const { network, path, report } = this.#options;
    this.#count += 1;
    const port = `${path} #${this.#count}`;
    const wire = createStreamPort(stream);
    const cable = joinPorts(network.addPort(port), wire);
    const leave = (): void => {
      if (!this.#leave.delete(leave)) return;
      cable[Symbol.dispose]();
      wire[Symbol.dispose]();
      network.removePort(port);
    };
    this.#leave.add(leave);
    report({ event: 'joined', port, reason: undefined });
    wire.onEnd((reason) => {
      if (!this.#leave.has(leave)) return;
      leave();
      report({ event: 'left', port, reason });
      onLeft();
    });
  }
}

/** Undefined when nobody listens there. */
function connect(path: string): UnixStream | undefined {
  try {
    return UnixStream.connect(path, { highWater: HIGH_WATER });
  } catch (error) {
    if (error instanceof LinuxError && (error.code === 'ENOENT' || error.code === 'ECONNREFUSED'))
      return undefined;
    throw error;
  }
}
