import { DeviceHost } from '@virtlab/virtio';
import { describe, expect, it } from 'vitest';
import { conflictingStore } from './testing/conflicting-store.ts';
import { bringUp } from './testing/drive.ts';
import { RawRing } from './testing/raw-ring.ts';
import { RigDevice } from './testing/rig-device.ts';
import { TinyDevice } from './testing/tiny-device.ts';
import { XenRig } from './testing/xen-rig.ts';

describe('transactions that conflict', () => {
  it.each([1, 5, 40])(
    'each transaction of both ends meets EAGAIN %i times: the device comes up and goes',
    async (count) => {
      const rig = new XenRig();
      const place = new RigDevice(rig, await rig.addDomain(1), await rig.addDomain(2));
      await place.plug();
      const host = new DeviceHost({ device: new TinyDevice(), aio: place.backend.aio });
      const { toolstack } = rig;
      const backStore = conflictingStore(place.backend.store, toolstack, place.backendPath, count);
      const frontStore = conflictingStore(place.frontend.store, toolstack, place.frontendPath, count);
      const backend = await rig.run(place.serve(host, backStore));
      const link = await rig.run(place.connect(5000, frontStore));
      const ring = new RawRing(link.dma);
      await rig.run(bringUp(link, ring));
      expect(host.isQueueEnabled(0)).toBe(true);
      await rig.run(link.transport.writeStatus(0));
      ring.free();
      await rig.run(link[Symbol.asyncDispose]());
      await rig.run(backend[Symbol.asyncDispose]());
      host[Symbol.dispose]();
      expect(rig.leaks()).toEqual([]);
    },
  );
});
