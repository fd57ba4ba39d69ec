import { describe, expect, it } from 'vitest';
import {
  deviceArguments,
  plugCommands,
  removalCommands,
  streamNet,
  vhostUserBlk,
  vhostUserNet,
  virtioBlk,
  virtioRng,
} from './guest-device.ts';

/** Arguments with their JSON read again. */
function readArguments(args: readonly string[]): readonly unknown[] {
  return args.map((arg) => (arg.startsWith('{') ? (JSON.parse(arg) as unknown) : arg));
}

describe('devices on the command line', () => {
  it('a vhost-user disk has its socket, with commas, and as many queues as asked', () => {
    const device = vhostUserBlk({
      socketPath: 'a,b',
      reconnectSeconds: 1,
      queueCount: 2,
      properties: { packed: true },
    });
    expect(readArguments(deviceArguments(device))).toEqual([
      '-chardev',
      'socket,id=blk0-chardev,path=a,,b,reconnect=1',
      '-device',
      { driver: 'vhost-user-blk-pci', id: 'blk0', chardev: 'blk0-chardev', 'num-queues': 2, packed: true },
    ]);
  });

  it('a vhost-user network card has no MSI-X vectors unless asked', () => {
    const net = { socketPath: 'S', mac: '52:54:00:00:00:01' };
    const [, chardev, , netdev, , device] = readArguments(
      deviceArguments(vhostUserNet({ ...net, queueCount: 2 })),
    );
    expect(chardev).toBe('socket,id=net0-chardev,path=S');
    expect(netdev).toEqual({ type: 'vhost-user', id: 'net0-netdev', chardev: 'net0-chardev', queues: 2 });
    expect(device).toEqual({
      driver: 'virtio-net-pci',
      id: 'net0',
      netdev: 'net0-netdev',
      mac: '52:54:00:00:00:01',
      romfile: '',
      vectors: 0,
      mq: true,
    });
    expect(vhostUserNet({ ...net, properties: { vectors: 4 } }).device).toMatchObject({ vectors: 4 });
  });

  it('a network card of QEMU has a stream over a Unix socket', () => {
    const net = streamNet({ id: 'n', socketPath: 'S', isServer: true, mac: '52:54:00:00:00:01' });
    expect(net.netdev).toEqual({
      type: 'stream',
      id: 'n-netdev',
      server: true,
      addr: { type: 'unix', path: 'S' },
    });
    expect(net.device).toMatchObject({ driver: 'virtio-net-pci', netdev: 'n-netdev' });
  });

  it('a source of random numbers is nothing but a device', () => {
    expect(readArguments(deviceArguments(virtioRng()))).toEqual([
      '-device',
      { driver: 'virtio-rng-pci', id: 'rng0' },
    ]);
  });
});

describe('devices in a running guest', () => {
  it('are plugged after what stands behind them, which is removed in the opposite order', () => {
    const disk = virtioBlk({ id: 'd', file: 'F', readOnly: true });
    expect(plugCommands(disk, 'slot0').map(({ command }) => command)).toEqual([
      'blockdev-add',
      'blockdev-add',
      'device_add',
    ]);
    expect(plugCommands(disk, 'slot0').at(-1)?.parameters).toMatchObject({
      id: 'd',
      bus: 'slot0',
      drive: 'd-raw',
    });
    expect(removalCommands(disk)).toEqual([
      { command: 'blockdev-del', parameters: { 'node-name': 'd-raw' } },
      { command: 'blockdev-del', parameters: { 'node-name': 'd-file' } },
    ]);
    const card = vhostUserNet({ socketPath: 'S', mac: '52:54:00:00:00:01' });
    expect(plugCommands(card, 'slot0').map(({ command }) => command)).toEqual([
      'chardev-add',
      'netdev_add',
      'device_add',
    ]);
    expect(removalCommands(card).map(({ command }) => command)).toEqual(['netdev_del', 'chardev-remove']);
  });
});
