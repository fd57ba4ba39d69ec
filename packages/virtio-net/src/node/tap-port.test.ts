import { createNodeAioContext } from '@virtlab/aio/node';
import { linuxFfi, openFdCount } from '@virtlab/linux';
import { NetworkNamespace } from '@virtlab/linux/testing';
import { describe, expect, it, vi } from 'vitest';
import { ACCEPT_ALL } from '../frame-offload.ts';
import { createHostPort } from '../host-port.ts';
import { joinPorts } from '../join-ports.ts';
import { createLearningSwitch } from '../learning-switch.ts';
import { BROADCAST, mac, makeFrame } from '../testing/frames.ts';
import { createTapPort } from './tap-port.ts';

const ffi = linuxFfi();
const reason = ffi.available ? NetworkNamespace.unavailable() : ffi.reason;
// VIRTLAB_NO_NETNS=1: whoever runs the tests knows that this machine does not allow it, and has said so.
const isRequired = process.env['VIRTLAB_REQUIRE_PEERS'] === '1' && process.env['VIRTLAB_NO_NETNS'] !== '1';
if (reason !== undefined && isRequired) throw new Error(reason);

describe.skipIf(reason !== undefined)(`a TAP port${reason === undefined ? '' : ` (${reason})`}`, () => {
  it('says once when its interface is deleted, and may be disposed of from within', async () => {
    const before = openFdCount();
    const aio = createNodeAioContext();
    {
      await using namespace = await NetworkNamespace.create();
      const network = createLearningSwitch();
      const station = createHostPort(network, 'station');
      const port = createTapPort({ aio, name: 'vl0', namespace: namespace.path });
      const cable = joinPorts(network.addPort('tap'), port);
      await namespace.check('ip', 'link', 'set', 'vl0', 'up');
      await vi.waitFor(() => {
        station.send(makeFrame(BROADCAST, mac(1), 60));
        station.kick();
        expect(port.statistics.rxFrames).toBeGreaterThan(0);
      });
      let endCount = 0;
      const ended = Promise.withResolvers<void>();
      port.onEnd(() => {
        endCount += 1;
        expect(port.isClosed).toBe(true);
        cable[Symbol.dispose]();
        port[Symbol.dispose]();
        ended.resolve();
      });
      await namespace.check('ip', 'link', 'delete', 'vl0');
      await ended.promise;
      await new Promise((resolve) => void setImmediate(resolve));
      expect(endCount).toBe(1);
      station[Symbol.dispose]();
    }
    expect(aio.leaks()).toEqual([]);
    aio[Symbol.dispose]();
    await vi.waitFor(() => expect(openFdCount()).toBe(before));
  });

  it('of an interface that is deleted is told what to accept, and takes no harm', async () => {
    await using namespace = await NetworkNamespace.create();
    const aio = createNodeAioContext();
    const port = createTapPort({ aio, name: 'vl0', namespace: namespace.path });
    await namespace.check('ip', 'link', 'delete', 'vl0');
    for (const accept of [ACCEPT_ALL, 0]) expect(() => port.expect!(accept)).not.toThrow();
    port[Symbol.dispose]();
    aio[Symbol.dispose]();
  });
});
