import { type Domain, connectDevices, connectOwnXenstore } from '@virtlab/domain';
import type { DriverLink } from '@virtlab/virtio';
import type { GuestArguments } from './lab-messages.ts';
import { CONSOLE_UP } from './machine.ts';

/** Serves as a guest of a benchmark: connects its one device and answers requests with `serve`, made for it. */
export async function bootGuest(
  domain: Domain,
  args: unknown,
  connect: (link: DriverLink) => Promise<(request: unknown) => Promise<unknown>>,
): Promise<void> {
  const { bus } = args as GuestArguments;
  const links = await connectDevices(domain, connectOwnXenstore(domain), bus);
  const [link] = links.byType.values();
  if (link === undefined) throw new Error(`Domain ${domain.id} found no device`);
  domain.connection.onRequest(await connect(link));
  domain.console(CONSOLE_UP);
}
