import { expect, it } from 'vitest';
import { startLinuxGuest, streamNet, vhostUserNet } from '@virtlab/linux-guest';
import { DaemonFolder } from '../backends/testing/daemons.ts';
import { describeGuests } from './testing/describe-guests.ts';
import { configure, expectTraffic } from './testing/stations.ts';

const MAC = '52:54:00:00:00:0';

describeGuests('what else is on a switch of virtlab vhost-user-net', () => {
  const folder = new DaemonFolder();

  it('--stream: guests of -netdev stream, and of another daemon on the same switch', async () => {
    const stream = folder.file('stream');
    const [near, far] = [folder.file('near'), folder.file('far')];
    const daemon = await folder.start('vhost-user-net', '--socket-path', near, '--stream', stream);
    await folder.start('vhost-user-net', '--socket-path', far, '--stream', stream);
    // Both cards of the second guest are in networks of their own, so that it answers for each on the right one.
    await using one = await startLinuxGuest({
      programs: ['perl'],
      devices: [vhostUserNet({ socketPath: near, mac: `${MAC}1` })],
    });
    await using other = await startLinuxGuest({
      programs: ['perl'],
      devices: [
        streamNet({ id: 'net0', socketPath: stream, isServer: false, mac: `${MAC}2` }),
        vhostUserNet({ id: 'net1', socketPath: far, mac: `${MAC}3` }),
      ],
    });
    const first = await configure(one, 'eth0', '10.0.0.1');
    await expectTraffic(first, await configure(other, 'eth0', '10.0.0.2'));
    await other.output('ip link set eth0 down');
    await one.output('ip addr flush dev eth0');
    await expectTraffic(await configure(one, 'eth0', '10.0.1.1'), await configure(other, 'eth1', '10.0.1.2'));
    await Promise.all([one.powerOff(), other.powerOff()]);
    const left = await daemon.heard(({ event }) => event === 'left');
    expect(left['port']).toContain(stream);
  });
});
