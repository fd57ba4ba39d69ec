// A guest of the disk benchmark: random access to its disk, as asked.
import type { Domain } from '@virtlab/domain';
import { createBlkDriver } from '@virtlab/virtio-blk';
import { bootGuest } from '../lab/guest-program.ts';
import { type RandomIo, RandomIoRunner } from './random-io.ts';

export async function boot(domain: Domain, args: unknown): Promise<void> {
  await bootGuest(domain, args, async (link) => {
    const runner = new RandomIoRunner(await createBlkDriver(link, { aio: domain.aio }));
    return (request) => runner.run(request as RandomIo);
  });
}
