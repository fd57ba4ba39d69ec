// Domain 0: the device's end of the wire is a TAP interface in the other namespace.
import { type Domain, type Guest, startDom0 } from '@virtlab/domain';
import { type NetDevice, createNetDevice } from '@virtlab/virtio-net';
import { type TapPort, createTapPort } from '@virtlab/virtio-net/node';
import type { GuestRequest } from './messages.ts';

const GUEST_RAM_SIZE = 64 << 20;
const SHUTDOWN_TIMEOUT_MS = 5000;
const MAC: Uint8Array = Uint8Array.of(2, 0, 0, 0, 0, 5);

export async function boot(domain: Domain): Promise<void> {
  const services = await startDom0(domain);
  let wire: { guest: Guest; tap: TapPort; device: NetDevice } | undefined;
  domain.connection.onRequest(async (message) => {
    const { op } = message as { readonly op: string };
    if (op === 'wire') {
      const { wire: end, guest: args } = message as GuestRequest & { readonly op: string };
      const tap = createTapPort({ aio: domain.aio, name: end.tap, namespace: end.namespace });
      const device = createNetDevice({ mac: MAC, port: tap, mtu: end.mtu });
      const module = new URL(
        import.meta.url.endsWith('.ts') ? './netns-domu.ts' : './netns-domu.js',
        import.meta.url,
      ).href;
      const program = { module, args };
      const guest = await services.toolstack.createGuest({
        name: 'wire',
        type: 'pv',
        ramSize: GUEST_RAM_SIZE,
        program,
      });
      await services.devices.plug(guest, 0, device, 'net');
      await guest.start();
      wire = { guest, tap, device };
      return guest.domain;
    }
    if (wire === undefined) throw new TypeError(`There is no wire to ${op}`);
    const { guest, tap, device } = wire;
    if (op === 'report')
      return { ...device.statistics, ...device.work.software, pauses: tap.statistics.pauses };
    const clean = await services.toolstack.shutdownGuest(guest, SHUTDOWN_TIMEOUT_MS);
    await services.devices.idle();
    tap[Symbol.dispose]();
    wire = undefined;
    const leaks = domain.leaks();
    return clean ? leaks : [...leaks, `domain ${guest.domain} did not power off`];
  });
  domain.console('up');
}
