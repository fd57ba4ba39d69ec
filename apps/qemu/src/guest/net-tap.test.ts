import { describe, expect, it } from 'vitest';
import { NetworkNamespace } from '@virtlab/linux/testing';
import { startLinuxGuest, vhostUserNet } from '@virtlab/linux-guest';
import { DaemonFolder } from '../backends/testing/daemons.ts';
import { describeGuests } from './testing/describe-guests.ts';
import { namespaceStation, startInNamespace } from './testing/namespace-station.ts';
import { NO_OFFLOADS } from './testing/offloads.ts';
import { configure, expectTraffic } from './testing/stations.ts';

const MAC = '52:54:00:00:00:02';

const reason = NetworkNamespace.unavailable();
// VIRTLAB_NO_NETNS=1: whoever runs the tests knows that this machine does not allow it, and has said so.
const isRequired = process.env['VIRTLAB_REQUIRE_PEERS'] === '1' && process.env['VIRTLAB_NO_NETNS'] !== '1';
if (reason !== undefined && isRequired) throw new Error(reason);

describeGuests('a TAP on a switch of virtlab vhost-user-net', () => {
  const folder = new DaemonFolder();

  describe.skipIf(reason !== undefined)(`--tap${reason === undefined ? '' : ` (${reason})`}`, () => {
    it.each([
      ['with offloads', {}],
      ['without offloads, packed rings', { ...NO_OFFLOADS, packed: true }],
    ])('a guest and the kernel behind a TAP in a network namespace, %s', async (name, properties) => {
      await using namespace = await NetworkNamespace.create();
      const socketPath = folder.file(name.replaceAll(/\W/g, ''));
      await using _daemon = await startInNamespace(namespace, '--socket-path', socketPath, '--tap', 'vl0');
      await namespace.check('ip', 'address', 'add', '10.0.0.1/24', 'dev', 'vl0');
      await namespace.check('ip', 'link', 'set', 'vl0', 'up');
      await namespace.check('ip', 'link', 'set', 'lo', 'up');
      await using guest = await startLinuxGuest({
        programs: ['perl'],
        devices: [vhostUserNet({ socketPath, mac: MAC, properties })],
      });
      await expectTraffic(
        namespaceStation(namespace, '10.0.0.1'),
        await configure(guest, 'eth0', '10.0.0.2'),
      );
      await guest.powerOff();
      expect(await namespace.check('ip', '-o', 'link', 'show', 'vl0')).toContain('LOWER_UP');
    });
  });
});
