// Domain 0 of the grid: one guest at a time, with one device.
import { type Domain, type Guest, startDom0 } from '@virtlab/domain';
import { createDevice } from './fixtures.ts';
import { type GridRequest, programUrl } from './processes.ts';

const GUEST_RAM_SIZE = 32 << 20;
const SHUTDOWN_TIMEOUT_MS = 5000;

export async function boot(domain: Domain): Promise<void> {
  const services = await startDom0(domain);
  let guest: Guest | undefined;
  domain.connection.onRequest(async (message) => {
    const request = message as GridRequest;
    if (request.op === 'cell') {
      const { bus, device } = request;
      guest = await services.toolstack.createGuest({
        name: `${bus}-${device}`,
        type: bus === 'pci' ? 'hvm' : 'pv',
        ramSize: GUEST_RAM_SIZE,
        program: { module: programUrl('grid-domu'), args: { bus, device } },
      });
      await services.devices.plug(guest, 0, createDevice(device), device);
      await guest.start();
      return guest.domain;
    }
    if (request.op === 'shutdown' && guest !== undefined) {
      const clean = await services.toolstack.shutdownGuest(guest, SHUTDOWN_TIMEOUT_MS);
      await services.devices.idle();
      const leaks = domain.leaks();
      return clean ? leaks : [...leaks, `domain ${guest.domain} did not power off`];
    }
    throw new TypeError(`Domain 0 of the grid does not serve ${request.op}`);
  });
  domain.console('up');
}
