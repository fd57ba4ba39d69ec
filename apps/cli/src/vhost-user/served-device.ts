import type { NodeAioContext } from '@virtlab/aio/node';
import type { UnixStream } from '@virtlab/linux';
import { type ServeVhostUserOptions, type VhostUserBackend, serveVhostUser } from '@virtlab/vhost-user';
import { DeviceHost, type VirtioDevice } from '@virtlab/virtio';
import { ConnectionReport } from './connection-report.ts';
import { type Place, placeName } from './daemon-plan.ts';
import { hostReports, trafficOf, trafficSince } from './host-reports.ts';
import { openPlace } from './open-place.ts';
import type { Report } from './report.ts';

export interface ServedDeviceOptions {
  readonly device: VirtioDevice;
  readonly place: Place;
  readonly aio: NodeAioContext;
  readonly legacy?: boolean;
  readonly setMtu?: ServeVhostUserOptions['setMtu'];
  readonly polling?: boolean;
  /** What `--allow-shrink` says, of a command that has it. */
  readonly allowShrink?: boolean;
  /** Protocol features that QEMU has wrong for this kind of device. */
  readonly withheld?: ServeVhostUserOptions['withheldProtocolFeatures'];
  readonly report: (report: Report) => void;
  /** A connection that was inherited is over: there will be no other. */
  readonly onLast?: () => void;
}

/**
 * Serves a device at its place, to one VhostUserFrontend after the other, and reports what happens. Throws as `openPlace`.
 */
export class ServedDevice {
  readonly #options: ServedDeviceOptions;
  readonly #name: string;
  readonly #host: DeviceHost;
  readonly #close: () => Promise<unknown>;

  constructor(options: ServedDeviceOptions) {
    const { place, aio, device, report, legacy = false, polling = true } = options;
    this.#options = options;
    this.#name = placeName(place);
    this.#host = new DeviceHost({ ...hostReports(this.#name, report), legacy, polling, aio, device });
    this.#close = openPlace(place, (stream) => this.#serve(stream), options.onLast);
  }

  /** Stops listening, ends the connection, and resolves when all is given back. */
  async close(): Promise<void> {
    await this.#close();
    this.#host[Symbol.dispose]();
  }

  #serve(stream: UnixStream): VhostUserBackend {
    const { aio, setMtu, report, withheld = [], allowShrink } = this.#options;
    const before = trafficOf(this.#host);
    const connection = new ConnectionReport(this.#name, report, allowShrink !== undefined);
    const backend: VhostUserBackend = serveVhostUser(stream, {
      host: this.#host,
      aio,
      withheldProtocolFeatures: withheld,
      allowShrink: allowShrink ?? false,
      ...(setMtu === undefined ? {} : { setMtu }),
      onRequest: () => connection.look(backend),
      onRefusal: (reason) => connection.refuse(reason),
    });
    void backend.ended.then((end) => connection.end(end, trafficSince(before, trafficOf(this.#host))));
    return backend;
  }
}
