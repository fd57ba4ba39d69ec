// Domain 0 of the grid: one guest with one device of each kind.
import { type Domain, type Guest, startDom0 } from '@virtlab/domain';
import type { HypervisorConnection } from '@virtlab/hypervisor';
import { DEVICES } from './exercises.ts';
import { createDevice } from './fixtures.ts';
import { withDoorbells } from './late-doorbells.ts';
import { type Dom0Arguments, type Dom0GridRequest, programUrl } from './processes.ts';

const GUEST_RAM_SIZE = 32 << 20;
const SHUTDOWN_TIMEOUT_MS = 5000;

export function connect(connection: HypervisorConnection, args: unknown): HypervisorConnection {
  return withDoorbells(connection, (args as Dom0Arguments).doorbells, connection.domain + 1);
}

export async function boot(domain: Domain): Promise<void> {
  const { toolstack, devices } = await startDom0(domain);
  let guest: Guest | undefined;
  domain.connection.onRequest(async (message) => {
    const request = message as Dom0GridRequest;
    if (request.op === 'guest') {
      const { transport } = request.guest;
      guest = await toolstack.createGuest({
        name: transport,
        type: transport === 'pci' ? 'hvm' : 'pv',
        ramSize: GUEST_RAM_SIZE,
        program: { module: programUrl('grid-domu'), args: request.guest },
      });
      const bus = transport === 'pci' ? undefined : transport;
      for (const [index, name] of DEVICES.entries())
        await devices.plug(guest, index, createDevice(name), name, bus);
      await guest.start();
      return guest.domain;
    }
    if (guest === undefined) throw new TypeError('There is no guest');
    const clean = await toolstack.shutdownGuest(guest, SHUTDOWN_TIMEOUT_MS);
    await devices.idle();
    const leaks = domain.leaks();
    return clean ? leaks : [...leaks, `domain ${guest.domain} did not power off`];
  });
  domain.console('up');
}
