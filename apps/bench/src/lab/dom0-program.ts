import { type Domain, startDom0 } from '@virtlab/domain';
import type { VirtioDevice } from '@virtlab/virtio';
import type { Dom0Request, GuestArguments } from './lab-messages.ts';
import { CONSOLE_UP } from './machine.ts';

const GUEST_RAM_SIZE = 32 << 20;

/** Serves as domain 0 of a benchmark: every guest gets one device, made by `createDevice` as its lab wants it. */
export async function bootDom0(
  domain: Domain,
  createDevice: (device: unknown) => Promise<VirtioDevice>,
): Promise<void> {
  const { toolstack, devices } = await startDom0(domain);
  domain.connection.onRequest(async (message) => {
    const { name, bus, module, device } = message as Dom0Request;
    const args: GuestArguments = { bus };
    const guest = await toolstack.createGuest({
      name,
      type: bus === 'pci' ? 'hvm' : 'pv',
      ramSize: GUEST_RAM_SIZE,
      program: { module, args },
    });
    await devices.plug(guest, 0, await createDevice(device), name, bus === 'pci' ? undefined : bus);
    await guest.start();
    return guest.domain;
  });
  domain.console(CONSOLE_UP);
}
