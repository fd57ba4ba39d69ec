// The domU of the grid: connects its devices and runs the exercises that it is asked for.
import { VIRTIO_ID_BLOCK, VIRTIO_ID_NET, VIRTIO_ID_RNG } from '@virtlab/abi/virtio';
import { type Domain, connectDevices, connectOwnXenstore, onShutdownRequest } from '@virtlab/domain';
import type { HypervisorConnection } from '@virtlab/hypervisor';
import type { DeviceName } from './exercises.ts';
import { ringNamed } from './grid.ts';
import { exercise } from './in-process.ts';
import { withDoorbells } from './late-doorbells.ts';
import type { DomUGridRequest, GuestArguments } from './processes.ts';

const DEVICE_TYPES: { readonly [Name in DeviceName]: number } = {
  rng: VIRTIO_ID_RNG,
  blk: VIRTIO_ID_BLOCK,
  net: VIRTIO_ID_NET,
};

export function connect(connection: HypervisorConnection, args: unknown): HypervisorConnection {
  return withDoorbells(connection, (args as GuestArguments).doorbells, connection.domain + 1);
}

export async function boot(domain: Domain, args: unknown): Promise<void> {
  const { transport } = args as GuestArguments;
  const store = connectOwnXenstore(domain);
  const links = await connectDevices(domain, store, transport);
  domain.connection.onRequest(async (message) => {
    const request = message as DomUGridRequest;
    if (request.op === 'leave') {
      await links[Symbol.asyncDispose]();
      return domain.leaks();
    }
    const { device, ring } = request;
    const link = links.byType.get(DEVICE_TYPES[device]);
    if (link === undefined) throw new Error(`Domain ${domain.id} found no ${device} device`);
    return await exercise({ ring: ringNamed(ring), device }, link, domain.aio);
  });
  await onShutdownRequest(store, domain.id, () => {
    store.close();
    void domain.shutdown('poweroff');
  });
  domain.console('up');
}
