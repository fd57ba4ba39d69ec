// A guest of the disk benchmark: access to its disk, as asked.
import type { Domain } from '@virtlab/domain';
import { createBlkDriver } from '@virtlab/virtio-blk';
import { type DriverVariant, DriverKeeper, ringFeaturesOf } from '../lab/driver-variant.ts';
import { bootGuest } from '../lab/guest-program.ts';
import { type BlockIo, BlockIoRunner } from './block-io.ts';

export async function boot(domain: Domain, args: unknown): Promise<void> {
  const { aio } = domain;
  await bootGuest(domain, args, async (link) => {
    const runners = new DriverKeeper(async (variant: DriverVariant) => {
      const { queueCount = 1 } = variant;
      const disk = await createBlkDriver(link, { aio, queueCount, ringFeatures: ringFeaturesOf(variant) });
      return { driver: new BlockIoRunner(disk), close: () => disk.close() };
    });
    return async (request) => {
      const io = request as BlockIo;
      const runner = await runners.get(io.variant ?? {});
      return io.count === 0 ? undefined : await runner.run(io);
    };
  });
}
