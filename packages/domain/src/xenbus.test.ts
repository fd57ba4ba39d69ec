import { VIRTIO_ID_RNG } from '@virtlab/abi/virtio';
import { TransportError, type VirtioDevice, initializeDevice } from '@virtlab/virtio';
import { type TransportUnderTest, describeTransport } from '@virtlab/virtio/conformance';
import { describe, expect, it, vi } from 'vitest';
import { type DeviceBus, connectDevices } from './connect-devices.ts';
import { createLocalSystem } from './testing/local-system.ts';

/** One queue that is never served. */
class IdleDevice implements VirtioDevice {
  readonly deviceType = VIRTIO_ID_RNG;
  readonly features = 0n;
  readonly queueSizesMax: readonly number[] = [8];
  readonly configSize = 0;
  readConfig(): void {}
  activate(): void {}
  processQueue(): void {}
  reset(): void {}
}

async function connect(device: VirtioDevice, bus: Exclude<DeviceBus, 'pci'>): Promise<TransportUnderTest> {
  const system = await createLocalSystem();
  const { devices } = system.services;
  const { domain, guest, store } = await system.addGuest('pv', 'pv', (made) =>
    devices.plug(made, 0, device, 'probe', bus),
  );
  const links = await connectDevices(domain, store, bus);
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

describe.each(['xenbus', 'xenbus-register-page'] as const)('%s', (bus) => {
  describeTransport({
    name: `virtio_xenbus of a PV domain, ${bus}`,
    create: ({ device }) => connect(device, bus),
  });
});

describe('the profile', () => {
  it('is the toolstack’s choice: a domain that insists on another one is told', async () => {
    const system = await createLocalSystem();
    const { devices } = system.services;
    const { domain, store } = await system.addGuest('pv', 'pv', (made) =>
      devices.plug(made, 0, new IdleDevice(), 'idle', 'xenbus-register-page'),
    );
    await expect(connectDevices(domain, store, 'xenbus')).rejects.toMatchObject({ code: 'EPROTO' });
    const links = await connectDevices(domain, store, 'xenbus-register-page');
    expect([...links.byType.values()][0]?.transport.capabilities.name).toBe('xenbus-register-page');
    await links[Symbol.asyncDispose]();
    expect([...domain.leaks(), ...(await system.close())]).toEqual([]);
  });
});

describe.each(['xenbus', 'xenbus-register-page'] as const)('%s: reconnect', (bus) => {
  it('a device that is unplugged and plugged again is brought up again by its driver', async () => {
    const system = await createLocalSystem();
    const { devices } = system.services;
    const { domain, guest, store } = await system.addGuest('pv', 'pv', (made) =>
      devices.plug(made, 0, new IdleDevice(), 'idle', bus),
    );
    const links = await connectDevices(domain, store, bus);
    for (let round = 0; round < 3; round += 1) {
      const session = await initializeDevice(links.byType.get(VIRTIO_ID_RNG)!, {
        aio: domain.aio,
        wanted: 0n,
      });
      const broken = new Promise<string>((resolve) => {
        session.onBroken(resolve);
      });
      await devices.unplug(guest, 0);
      expect(await broken).toMatch(/^device gone/);
      await session.stop();
      const reconnecting = links.reconnect(VIRTIO_ID_RNG);
      await devices.plug(guest, 0, new IdleDevice(), 'idle again', bus);
      expect(await reconnecting).toBe(links.byType.get(VIRTIO_ID_RNG));
    }
    await expect(links.reconnect(1)).rejects.toMatchObject({ code: 'ENODEV' });
    const gone = links.reconnect(VIRTIO_ID_RNG, { signal: AbortSignal.abort(new Error('enough')) });
    await expect(gone).rejects.toThrow('enough');
    await links[Symbol.asyncDispose]();
    expect([...domain.leaks(), ...(await system.close())]).toEqual([]);
  });
});
