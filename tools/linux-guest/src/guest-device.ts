/** Properties of QEMU's objects, in QEMU's spelling; a boolean is `on` or `off` on a command line. */
export type QemuProperties = Readonly<Record<string, unknown>>;

/** A Unix socket that QEMU connects to. */
export interface SocketChardev {
  readonly id: string;
  readonly socketPath: string;
  /** Seconds between attempts after the connection was lost; 0 is never. */
  readonly reconnectSeconds: number;
}

/** A device of a guest, and what stands behind it. The functions of this file make the usual ones. */
export interface GuestDevice {
  /** Of the device itself, in QEMU's commands. */
  readonly id: string;
  readonly chardev?: SocketChardev;
  readonly netdev?: QemuProperties;
  /** Each after those that it refers to. */
  readonly blockdevs?: readonly QemuProperties[];
  readonly device: QemuProperties;
}

export interface DeviceOptions {
  readonly id?: string;
  /** More properties of the device, such as `{ packed: true, 'queue-size': 64 }`; they win. */
  readonly properties?: QemuProperties;
}

export interface VhostUserOptions extends DeviceOptions {
  readonly socketPath: string;
  /** Seconds between attempts after the connection was lost; 0, the default, is never. */
  readonly reconnectSeconds?: number;
  /** Queues of a disk, pairs of queues of a network card. The guest uses no more than it has CPUs. */
  readonly queueCount?: number;
}

/** A disk that another process serves; it listens on the socket before the guest starts. */
export function vhostUserBlk(options: VhostUserOptions): GuestDevice {
  const id = options.id ?? 'blk0';
  const chardev = socketChardev(id, options);
  const queues = { 'num-queues': options.queueCount ?? 1 };
  return {
    id,
    chardev,
    device: { driver: 'vhost-user-blk-pci', id, chardev: chardev.id, ...queues, ...options.properties },
  };
}

/**
 * A network card that another process serves. It has no MSI-X vectors: QEMU 7.2 crashes when a driver starts a vhost-user
 * network card that has them without KVM. `mac` is the card's address.
 */
export function vhostUserNet(options: VhostUserOptions & { readonly mac: string }): GuestDevice {
  const id = options.id ?? 'net0';
  const chardev = socketChardev(id, options);
  const queueCount = options.queueCount ?? 1;
  const netdev = { type: 'vhost-user', id: `${id}-netdev`, chardev: chardev.id, queues: queueCount };
  const queues = queueCount > 1 ? { mq: true } : {};
  return {
    ...networkCard(id, netdev, options.mac, { vectors: 0, ...queues, ...options.properties }),
    chardev,
  };
}

/** A disk of QEMU's own on a raw file. */
export function virtioBlk(
  options: DeviceOptions & {
    readonly file: string;
    readonly readOnly?: boolean;
    readonly queueCount?: number;
  },
): GuestDevice {
  const id = options.id ?? 'blk0';
  const readOnly = options.readOnly ?? false;
  const node = { 'read-only': readOnly, discard: 'unmap' };
  const queues = options.queueCount === undefined ? {} : { 'num-queues': options.queueCount };
  return {
    id,
    blockdevs: [
      { driver: 'file', 'node-name': `${id}-file`, filename: options.file, ...node },
      { driver: 'raw', 'node-name': `${id}-raw`, file: `${id}-file`, ...node },
    ],
    device: { driver: 'virtio-blk-pci', id, drive: `${id}-raw`, ...queues, ...options.properties },
  };
}

/**
 * A network card of QEMU's own whose frames go over a Unix socket as a stream, each after its length in four bytes, big
 * endian. One end listens (`isServer`) and is started first.
 */
export function streamNet(
  options: DeviceOptions & { readonly socketPath: string; readonly isServer: boolean; readonly mac: string },
): GuestDevice {
  const id = options.id ?? 'net0';
  const addr = { type: 'unix', path: options.socketPath };
  const netdev = { type: 'stream', id: `${id}-netdev`, server: options.isServer, addr };
  return networkCard(id, netdev, options.mac, options.properties);
}

/** The host's random numbers. */
export function virtioRng(options: DeviceOptions = {}): GuestDevice {
  const id = options.id ?? 'rng0';
  return { id, device: { driver: 'virtio-rng-pci', id, ...options.properties } };
}

function socketChardev(id: string, options: VhostUserOptions): SocketChardev {
  return {
    id: `${id}-chardev`,
    socketPath: options.socketPath,
    reconnectSeconds: options.reconnectSeconds ?? 0,
  };
}

function networkCard(
  id: string,
  netdev: QemuProperties,
  mac: string,
  properties: QemuProperties | undefined,
): GuestDevice {
  // Without a romfile the firmware does not try to start from the network.
  const card = { driver: 'virtio-net-pci', id, netdev: netdev['id'], mac, romfile: '' };
  return { id, netdev, device: { ...card, ...properties } };
}

/** QEMU's arguments for a device that is there from the start. */
export function deviceArguments({ chardev, netdev, blockdevs, device }: GuestDevice): readonly string[] {
  const args: string[] = [];
  if (chardev !== undefined) {
    const { id, socketPath, reconnectSeconds } = chardev;
    const reconnect = reconnectSeconds === 0 ? '' : `,reconnect=${reconnectSeconds}`;
    args.push('-chardev', `socket,id=${id},path=${socketPath.replaceAll(',', ',,')}${reconnect}`);
  }
  for (const blockdev of blockdevs ?? []) args.push('-blockdev', JSON.stringify(blockdev));
  if (netdev !== undefined) args.push('-netdev', JSON.stringify(netdev));
  return [...args, '-device', JSON.stringify(device)];
}

export interface QmpCommand {
  readonly command: string;
  readonly parameters: QemuProperties;
}

/** The commands that add a device to a running guest; `bus` is the free slot that it goes into. */
export function plugCommands(guestDevice: GuestDevice, bus: string): readonly QmpCommand[] {
  const { chardev, netdev, blockdevs, device } = guestDevice;
  const commands: QmpCommand[] = [];
  if (chardev !== undefined) {
    const addr = { type: 'unix', data: { path: chardev.socketPath } };
    const data = { addr, server: false, reconnect: chardev.reconnectSeconds };
    commands.push({
      command: 'chardev-add',
      parameters: { id: chardev.id, backend: { type: 'socket', data } },
    });
  }
  for (const parameters of blockdevs ?? []) commands.push({ command: 'blockdev-add', parameters });
  if (netdev !== undefined) commands.push({ command: 'netdev_add', parameters: netdev });
  return [...commands, { command: 'device_add', parameters: { ...device, bus } }];
}

/** The commands that remove what stood behind a device that is gone. */
export function removalCommands({ chardev, netdev, blockdevs }: GuestDevice): readonly QmpCommand[] {
  const commands: QmpCommand[] = [];
  if (netdev !== undefined) commands.push({ command: 'netdev_del', parameters: { id: netdev['id'] } });
  for (const node of blockdevs?.toReversed() ?? []) {
    commands.push({ command: 'blockdev-del', parameters: { 'node-name': node['node-name'] } });
  }
  if (chardev !== undefined) commands.push({ command: 'chardev-remove', parameters: { id: chardev.id } });
  return commands;
}
