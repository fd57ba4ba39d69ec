import { expect, it } from 'vitest';
import { startLinuxGuest, streamNet, vhostUserNet } from '@virtlab/linux-guest';
import { DaemonFolder } from '../backends/testing/daemons.ts';
import { describeGuests } from './testing/describe-guests.ts';
import { configure, expectTraffic } from './testing/stations.ts';

const MAC = '52:54:00:00:00:0';
const PAIR_COUNT = 2;

describeGuests('what else is on a switch of virtlab vhost-user-net', () => {
  const folder = new DaemonFolder();

  it('--stream: guests of -netdev stream, and of another daemon on the same switch, with two pairs of queues', async () => {
    const stream = folder.file('stream');
    const [near, far, dead] = [folder.file('near'), folder.file('far'), folder.file('dead')];
    const places = ['--socket-path', near, '--socket-path', dead];
    const daemon = await folder.start('vhost-user-net', ...places, '--stream', stream);
    const pairs = ['--num-queues', String(PAIR_COUNT)];
    const farDaemon = await folder.start(
      'vhost-user-net',
      '--socket-path',
      far,
      '--stream',
      stream,
      ...pairs,
    );
    // Both cards of the second guest are in networks of their own, so that it answers for each on the right one.
    await using one = await startLinuxGuest({
      programs: ['perl'],
      devices: [
        vhostUserNet({ socketPath: near, mac: `${MAC}1` }),
        // QEMU goes on offering what depends on checksums, and Linux takes it, against §5.1.3.1.
        vhostUserNet({
          id: 'dead',
          socketPath: dead,
          mac: `${MAC}4`,
          properties: { csum: false, guest_csum: false },
        }),
      ],
    });
    await using other = await startLinuxGuest({
      programs: ['perl'],
      cpuCount: PAIR_COUNT,
      devices: [
        streamNet({ id: 'net0', socketPath: stream, isServer: false, mac: `${MAC}2` }),
        vhostUserNet({ id: 'net1', socketPath: far, mac: `${MAC}3`, queueCount: PAIR_COUNT }),
      ],
    });
    const first = await configure(one, 'eth0', '10.0.0.1');
    await expectTraffic(first, await configure(other, 'eth0', '10.0.0.2'));
    await other.output('ip link set eth0 down');
    await one.output('ip addr flush dev eth0');
    await expectTraffic(await configure(one, 'eth0', '10.0.1.1'), await configure(other, 'eth1', '10.0.1.2'));

    // A processor's packets go to its own pair of queues.
    expect(await other.output('ls /sys/class/net/eth1/queues | grep -c rx-')).toBe(String(PAIR_COUNT));
    for (let queue = 0; queue < 2 * PAIR_COUNT; queue += 1)
      await farDaemon.heard((each) => each['queue'] === queue && each['state'] === 'started');
    for (const mask of [1, 2]) await other.output(`taskset ${mask} ping -c 3 -i 0.1 -W 10 10.0.1.1`);

    // The kernel has a carrier and no frame comes through, so that the daemon is the only one to say why.
    await one.output('ip link set eth1 up');
    daemon.mayWarn = true;
    const { message } = await daemon.heard(({ event }) => event === 'warning');
    expect(message).toMatch(
      /dead: .*features are refused.*VIRTIO_NET_F_(HOST|GUEST)_TSO4 needs (GUEST_)?CSUM/,
    );
    await Promise.all([one.powerOff(), other.powerOff()]);
    const left = await daemon.heard(({ event }) => event === 'left');
    expect(left['port']).toContain(stream);
  });
});
