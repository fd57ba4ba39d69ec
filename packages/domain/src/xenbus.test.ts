import { TransportError, type VirtioDevice } from '@virtlab/virtio';
import { type TransportUnderTest, describeTransport } from '@virtlab/virtio/conformance';
import { vi } from 'vitest';
import { connectDevices } from './connect-devices.ts';
import { createLocalSystem } from './testing/local-system.ts';

async function connect(device: VirtioDevice): Promise<TransportUnderTest> {
  const system = await createLocalSystem();
  const { devices } = system.services;
  const { domain, guest, store } = await system.addGuest('pv', 'pv', (made) =>
    devices.plug(made, 0, device, 'probe'),
  );
  const links = await connectDevices(domain, store, 'xenbus');
  const [link] = links.byType.values();
  const host = await vi.waitUntil(() => devices.hostOf(guest, 0));
  return {
    link: link!,
    driverAio: domain.aio,
    host,
    settle: async () => {
      for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    },
    removeDevice: () => devices.unplug(guest, 0),
    close: async () => {
      try {
        await links[Symbol.asyncDispose]();
      } catch (error) {
        if (!(error instanceof TransportError)) throw error; // its device is gone: that is the point of some tests
      }
      const leaks = domain.leaks();
      return [...leaks, ...(await system.close())];
    },
  };
}

describeTransport({
  name: 'virtio_xenbus of a PV domain, native profile',
  create: ({ device }) => connect(device),
});
