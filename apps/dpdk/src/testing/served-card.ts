import type { NodeAioContext } from '@virtlab/aio/node';
import { DeviceHost } from '@virtlab/virtio';
import {
  type VhostUserBackend,
  type VhostUserBackendEnd,
  type VhostUserListener,
  listenVhostUser,
  serveVhostUser,
} from '@virtlab/vhost-user';
import {
  type HostPort,
  type NetDevice,
  createHostPort,
  createLearningSwitch,
  createNetDevice,
} from '@virtlab/virtio-net';
import { THEIRS } from './frames.ts';

/** A card of ours that is served at a socket, on a switch with a station of this process. */
export class ServedCard {
  readonly station: HostPort;
  readonly device: NetDevice;
  /** How connections ended. */
  readonly ends: VhostUserBackendEnd[] = [];
  readonly #host: DeviceHost;
  readonly #listener: VhostUserListener;

  constructor(path: string, aio: NodeAioContext, queuePairs = 1) {
    const network = createLearningSwitch();
    this.station = createHostPort(network, 'station', { aio });
    const port = network.addPort('card');
    const card = { mac: THEIRS, port, queuePairs, queueSize: 1024, controlElsewhere: true };
    this.device = createNetDevice(card);
    const host = new DeviceHost({ device: this.device, aio });
    this.#host = host;
    this.#listener = listenVhostUser({
      path,
      serve: (stream) => serveVhostUser(stream, { host, aio, allowShrink: true }),
      onEnd: (end) => void this.ends.push(end),
    });
  }

  /** The connection that is there. */
  get backend(): VhostUserBackend {
    return this.#listener.connections[0]!;
  }

  async close(): Promise<void> {
    await this.#listener.close();
    this.station[Symbol.dispose]();
    this.#host[Symbol.dispose]();
  }
}
