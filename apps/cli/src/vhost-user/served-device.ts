import { readFileSync, readlinkSync } from 'node:fs';
import type { NodeAioContext } from '@virtlab/aio/node';
import type { UnixStream } from '@virtlab/linux';
import {
  type VhostUserBackendEnd,
  type ServeVhostUserOptions,
  type VhostUserBackend,
  listenVhostUser,
  serveVhostUser,
  vhostUserStream,
} from '@virtlab/vhost-user';
import { DeviceHost, type DeviceHostOptions, type VirtioDevice } from '@virtlab/virtio';
import { type Place, placeName } from './daemon-plan.ts';
import type { Report, Traffic } from './report.ts';

export interface ServedDeviceOptions {
  readonly device: VirtioDevice;
  readonly place: Place;
  readonly aio: NodeAioContext;
  readonly legacy?: boolean;
  readonly setMtu?: ServeVhostUserOptions['setMtu'];
  readonly polling?: boolean;
  /** Protocol features that QEMU has wrong for this kind of device. */
  readonly withheld?: ServeVhostUserOptions['withheldProtocolFeatures'];
  readonly report: (report: Report) => void;
  /** A connection that was inherited is over: there will be no other. */
  readonly onLast?: () => void;
}

/**
 * Serves a device at its place, to one VhostUserFrontend after the other, and reports what happens. Throws `LinuxError`:
 * `EADDRINUSE` where somebody listens, `EACCES` and the like where no socket can be made.
 */
export class ServedDevice {
  readonly #options: ServedDeviceOptions;
  readonly #name: string;
  readonly #host: DeviceHost;
  readonly #close: () => Promise<unknown>;

  constructor(options: ServedDeviceOptions) {
    const { place, aio, device } = options;
    this.#options = options;
    this.#name = placeName(place);
    this.#host = new DeviceHost({ ...this.#hostOptions(), aio, device });
    if ('fd' in place && !isListening(place.fd)) {
      const backend = this.#serve(vhostUserStream(place.fd));
      void backend.ended.then(() => options.onLast?.());
      this.#close = () => backend.close();
    } else {
      const where = 'fd' in place ? { fd: place.fd } : { path: place.socketPath };
      const listener = listenVhostUser({ ...where, serve: (stream) => this.#serve(stream) });
      this.#close = () => listener.close();
    }
  }

  /** Stops listening, ends the connection, and resolves when all is given back. */
  async close(): Promise<void> {
    await this.#close();
    this.#host[Symbol.dispose]();
  }

  #hostOptions(): Omit<DeviceHostOptions, 'device' | 'aio'> {
    const { report, legacy = false, polling = true } = this.#options;
    const warn = (message: string): void =>
      report({ event: 'warning', message: `${this.#name}: ${message}` });
    return {
      name: this.#name,
      legacy,
      polling,
      onViolation: ({ queue, violation }) => {
        const where = queue === undefined ? '' : `queue ${queue}: `;
        warn(`${where}§${violation.section}: ${violation.message}; the device needs a reset`);
      },
      onError: (error) => warn(`the device failed: ${error instanceof Error ? error.stack : String(error)}`),
    };
  }

  #serve(stream: UnixStream): VhostUserBackend {
    const { aio, setMtu, report, withheld = [] } = this.#options;
    const [socket, before] = [this.#name, this.#traffic()];
    report({ event: 'connected', socket });
    const changes = new Changes(socket, report);
    const backend: VhostUserBackend = serveVhostUser(stream, {
      host: this.#host,
      aio,
      withheldProtocolFeatures: withheld,
      ...(setMtu === undefined ? {} : { setMtu }),
      onRequest: () => changes.look(backend),
    });
    void backend.ended.then((end) => {
      changes.end();
      const { requests, kicks, calls } = this.#traffic();
      report({
        event: 'disconnected',
        socket,
        reason: reasonOf(end),
        requests: requests - before.requests,
        kicks: kicks - before.kicks,
        calls: calls - before.calls,
      });
    });
    return backend;
  }

  #traffic(): Traffic {
    const sum = { requests: 0, kicks: 0, calls: 0 };
    for (const { requests, kicks, calls } of this.#host.statistics) {
      sum.requests += requests;
      sum.kicks += kicks;
      sum.calls += calls;
    }
    return sum;
  }
}

/** Reports what requests changed, once they are done. */
class Changes {
  readonly #socket: string;
  readonly #report: (report: Report) => void;
  readonly #running = new Set<number>();
  #features = '';
  #isPlanned = false;
  #hasEnded = false;

  constructor(socket: string, report: (report: Report) => void) {
    this.#socket = socket;
    this.#report = report;
  }

  look(backend: VhostUserBackend): void {
    if (this.#isPlanned) return;
    this.#isPlanned = true;
    setImmediate(() => {
      this.#isPlanned = false;
      if (!this.#hasEnded) this.#compare(backend);
    });
  }

  end(): void {
    this.#hasEnded = true;
    for (const queue of this.#running) this.#tell(queue, 'stopped');
  }

  #compare(backend: VhostUserBackend): void {
    const { features, protocolFeatures, vrings } = backend.status();
    const [socket, isAnyRunning] = [this.#socket, vrings.some(({ isRunning }) => isRunning)];
    const text = `0x${features.toString(16)}`;
    if (isAnyRunning && text !== this.#features) {
      this.#features = text;
      const names = protocolFeatures.join(' ');
      this.#report({ event: 'features', socket, features: text, protocolFeatures: names });
    }
    for (const [queue, { isRunning }] of vrings.entries()) {
      if (isRunning === this.#running.has(queue)) continue;
      if (isRunning) this.#running.add(queue);
      else this.#running.delete(queue);
      this.#tell(queue, isRunning ? 'started' : 'stopped');
    }
  }

  #tell(queue: number, state: 'started' | 'stopped'): void {
    this.#report({ event: 'queue', socket: this.#socket, queue, state });
  }
}

function reasonOf({ fault, error }: VhostUserBackendEnd): string | undefined {
  if (error !== undefined) return error instanceof Error ? (error.stack ?? error.message) : String(error);
  return fault === undefined ? undefined : `${fault.code}: ${fault.message}`;
}

const ACCEPTS_CONNECTIONS = 0x1_0000; // __SO_ACCEPTCON, net/unix/af_unix.c
const FLAGS_COLUMN = 3;
const INODE_COLUMN = 6;

/** Whether an inherited socket is one to accept connections from (proc(5), /proc/net/unix). */
function isListening(fd: number): boolean {
  const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1];
  const columns = readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .map((line) => line.split(/\s+/))
    .find((found) => found[INODE_COLUMN] === inode);
  return columns !== undefined && (Number(`0x${columns[FLAGS_COLUMN]}`) & ACCEPTS_CONNECTIONS) !== 0;
}
