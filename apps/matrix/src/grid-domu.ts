// The domU of the grid: connects its one device and runs the exercise for it.
import { type Domain, connectDevices, connectOwnXenstore, onShutdownRequest } from '@virtlab/domain';
import { EXERCISES } from './exercises.ts';
import type { GuestArguments } from './processes.ts';

export async function boot(domain: Domain, args: unknown): Promise<void> {
  const { bus, device } = args as GuestArguments;
  const store = connectOwnXenstore(domain);
  const links = await connectDevices(domain, store, bus);
  const [link] = links.byType.values();
  if (link === undefined) throw new Error(`Domain ${domain.id} found no device`);
  domain.connection.onRequest(async () => {
    await EXERCISES[device](link, domain.aio);
    await links[Symbol.asyncDispose]();
    return domain.leaks();
  });
  await onShutdownRequest(store, domain.id, () => {
    store.close();
    void domain.shutdown('poweroff');
  });
  domain.console('up');
}
