import { DeviceHost } from '@virtlab/virtio';
import { type TransportSetup, describeTransport } from '@virtlab/virtio/conformance';
import { describe } from 'vitest';
import { RigDevice } from './testing/rig-device.ts';
import { XenRig } from './testing/xen-rig.ts';

import type { XenbusProfile } from './profile.ts';

/** All that may befall a doorbell. */
const DOORBELLS = ['calm', 'coalescing', 'late', 'spurious'] as const;

function setup(profile: XenbusProfile, doorbells: (typeof DOORBELLS)[number], seed: number): TransportSetup {
  return {
    name: `xenbus ${profile}, ${doorbells} doorbells, seed ${seed}`,
    create: async ({ device }) => {
      const rig = new XenRig({ doorbells, seed });
      const place = new RigDevice(rig, await rig.addDomain(1), await rig.addDomain(0), 0, profile);
      await place.plug();
      const host = new DeviceHost({ device, aio: place.backend.aio, onError: () => {} });
      const backend = await rig.run(place.serve(host));
      const link = await rig.run(place.connect());
      return {
        link,
        driverAio: place.frontend.aio,
        host,
        settle: () => rig.settle(),
        removeDevice: async () => {
          await place.unplug();
          await backend.closed;
        },
        close: async () => {
          await link[Symbol.asyncDispose]();
          await backend[Symbol.asyncDispose]();
          host[Symbol.dispose]();
          return rig.leaks();
        },
      };
    },
  };
}

describe.each(['native', 'register-page'] as const)('%s', (profile) => {
  describe.each(DOORBELLS)('%s', (doorbells) => {
    describeTransport(setup(profile, doorbells, 7));
  });
});
