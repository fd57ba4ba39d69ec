import { VIRTIO_ID_BLOCK } from '@virtlab/abi/virtio';
import { type NodeAioContext, createNodeAioContext } from '@virtlab/aio/node';
import { openFdCount, socketPair } from '@virtlab/linux';
import { DeviceHost, type VirtioDevice } from '@virtlab/virtio';
import {
  type ConnectVhostUserOptions,
  type ServeVhostUserOptions,
  type VhostUserLink,
  connectVhostUser,
  serveVhostUser,
  vhostUserStream,
} from '@virtlab/vhost-user';

export interface VhostUserRig {
  readonly link: VhostUserLink;
  readonly aio: NodeAioContext;
  /** Ends everything; what is still held. */
  close(): Promise<readonly string[]>;
}

/** A link to whoever listens. */
export async function connectRig(options: Partial<ConnectVhostUserOptions>): Promise<VhostUserRig> {
  // Node opens descriptors of its own with the first socket; they are not the link's.
  const fdCount = openFdCount() - (options.fd === undefined ? 0 : 1);
  const aio = createNodeAioContext();
  const memorySize = 4 << 20;
  const link = await connectVhostUser({ aio, deviceType: VIRTIO_ID_BLOCK, memorySize, ...options });
  return {
    link,
    aio,
    close: async () => {
      const { usedPages, lentCount, coherentCount } = link.dma;
      await link[Symbol.asyncDispose]();
      const leaks = aio.leaks();
      aio[Symbol.dispose]();
      const counts = { pages: usedPages, shares: lentCount, 'coherent buffers': coherentCount };
      const fds = openFdCount() - fdCount;
      return [
        ...Object.entries({ ...counts, descriptors: fds }).flatMap(([name, count]) =>
          count === 0 ? [] : [`${count} ${name}`],
        ),
        ...leaks,
      ];
    },
  };
}

/** A device of ours and a link to it, in one thread, each with a loop of its own. */
export async function serveRig(
  device: VirtioDevice,
  options: Partial<ConnectVhostUserOptions> = {},
  served: Partial<ServeVhostUserOptions> = {},
): Promise<VhostUserRig> {
  const deviceAio = createNodeAioContext();
  const [driverFd, deviceFd] = socketPair();
  const host = new DeviceHost({ device, aio: deviceAio });
  const backend = serveVhostUser(vhostUserStream(deviceFd), { host, aio: deviceAio, ...served });
  const rig = await connectRig({ fd: driverFd, ...options });
  return {
    ...rig,
    close: async () => {
      const held = await rig.close();
      await backend.close();
      host[Symbol.dispose]();
      const leaks = deviceAio.leaks();
      deviceAio[Symbol.dispose]();
      // The device's end of the link was open when descriptors were counted.
      return [...held.filter((each) => !each.endsWith(' descriptors')), ...leaks];
    },
  };
}
