// The guest: its network card is all it has, and what a TAP interface in one namespace sends goes out through it.
import { VIRTIO_ID_NET } from '@virtlab/abi/virtio';
import { type Domain, connectDevices, connectOwnXenstore, onShutdownRequest } from '@virtlab/domain';
import { describeFeatures } from '@virtlab/virtio';
import { createDriverPort, createNetDriver, joinPorts } from '@virtlab/virtio-net';
import { createTapPort } from '@virtlab/virtio-net/node';
import type { GuestArguments, NetnsRequest, WireReport } from './messages.ts';

export async function boot(domain: Domain, args: unknown): Promise<void> {
  const { namespace, tap: name, wanted } = args as GuestArguments;
  const { aio } = domain;
  const store = connectOwnXenstore(domain);
  const links = await connectDevices(domain, store, 'xenbus');
  const driver = await createNetDriver(links.byType.get(VIRTIO_ID_NET)!, { aio, wanted });
  const tap = createTapPort({ aio, name, namespace });
  const cable = joinPorts(createDriverPort(driver), tap, { acceptA: driver.accepts });
  const report = (leaks: readonly string[]): WireReport => ({
    driver: { ...driver.statistics, ...driver.software, pauses: tap.statistics.pauses },
    features: describeFeatures(driver.features, VIRTIO_ID_NET),
    leaks,
  });
  domain.connection.onRequest(async (message) => {
    if ((message as NetnsRequest).op === 'report') return report([]);
    const last = report([]);
    cable[Symbol.dispose]();
    tap[Symbol.dispose]();
    await driver.close();
    await links[Symbol.asyncDispose]();
    return { ...last, leaks: domain.leaks() };
  });
  await onShutdownRequest(store, domain.id, () => {
    store.close();
    void domain.shutdown('poweroff');
  });
  domain.console('up');
}
