import { createAioContext } from '@virtlab/aio';
import { type DeviceBus, connectDevices } from '@virtlab/domain';
import { createLocalSystem } from '@virtlab/domain/testing';
import { memoryRegion } from '@virtlab/guest-memory';
import { DeviceHost } from '@virtlab/virtio';
import { createMemoryTransport } from '@virtlab/virtio/memory';
import { type DeviceName, EXERCISES } from './exercises.ts';
import { createDevice } from './fixtures.ts';

/** Runs the exercise of a device in one thread; answers what was left behind. */
export type Cell = (device: DeviceName) => Promise<readonly string[]>;

const MEMORY_SIZE = 16 << 20;

/** Driver and device on the in-memory reference transport. */
export const memoryCell: Cell = async (device) => {
  const [driverAio, deviceAio] = [createAioContext(), createAioContext()];
  const host = new DeviceHost({ device: createDevice(device), aio: deviceAio });
  const { link } = createMemoryTransport({
    host,
    memory: memoryRegion(new ArrayBuffer(MEMORY_SIZE)),
    driverAio,
    deviceAio,
  });
  await EXERCISES[device](link, driverAio);
  await link[Symbol.asyncDispose]();
  await host.detach();
  const leaks = [...driverAio.leaks(), ...deviceAio.leaks()];
  driverAio[Symbol.dispose]();
  deviceAio[Symbol.dispose]();
  return leaks;
};

/** Domain 0 and a domU in one thread, on ordinary buffers. */
export function systemCell(bus: DeviceBus): Cell {
  return async (device) => {
    const system = await createLocalSystem();
    const { domain, store } = await system.addGuest('u', bus === 'pci' ? 'hvm' : 'pv', (guest) =>
      system.services.devices.plug(guest, 0, createDevice(device), device),
    );
    const links = await connectDevices(domain, store, bus);
    const [link] = links.byType.values();
    await EXERCISES[device](link!, domain.aio);
    await links[Symbol.asyncDispose]();
    const leaks = domain.leaks();
    return [...leaks, ...(await system.close())];
  };
}
