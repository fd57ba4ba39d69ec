// A guest of the network benchmark: sends frames to domain 0, as asked.
import type { Domain } from '@virtlab/domain';
import { createNetDriver } from '@virtlab/virtio-net';
import { bootGuest } from '../lab/guest-program.ts';
import { type Flood, FloodRunner } from './flood.ts';

export async function boot(domain: Domain, args: unknown): Promise<void> {
  await bootGuest(domain, args, async (link) => {
    const runner = new FloodRunner(await createNetDriver(link, { aio: domain.aio }));
    return (request) => runner.run(request as Flood);
  });
}
