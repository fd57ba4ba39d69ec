// A guest of the network benchmark: moves frames, as asked.
import { featureBits } from '@virtlab/abi/virtio';
import { VIRTIO_NET_F_MRG_RXBUF } from '@virtlab/abi/virtio-net';
import type { Domain } from '@virtlab/domain';
import { NET_DRIVER_FEATURES, NET_DRIVER_OFFLOADS, createNetDriver } from '@virtlab/virtio-net';
import { DriverKeeper, ringFeaturesOf } from '../lab/driver-variant.ts';
import { bootGuest } from '../lab/guest-program.ts';
import { CardRunner, type CardVariant, type CardWork } from './card-runner.ts';

export async function boot(domain: Domain, args: unknown): Promise<void> {
  const { aio } = domain;
  await bootGuest(domain, args, async (link) => {
    const runners = new DriverKeeper(async (variant: CardVariant) => {
      const { isMerging = true, isOffloading = false, queueCount: queuePairs = 1 } = variant;
      const without = isMerging ? 0n : featureBits(VIRTIO_NET_F_MRG_RXBUF);
      const wanted = (NET_DRIVER_FEATURES & ~without) | (isOffloading ? NET_DRIVER_OFFLOADS : 0n);
      const ringFeatures = ringFeaturesOf(variant);
      const net = await createNetDriver(link, { aio, wanted, ringFeatures, queuePairs });
      return { driver: new CardRunner(net), close: () => net.close() };
    });
    return async (request) => {
      const work = request as CardWork;
      const runner = await runners.get(work.variant ?? {});
      return work.count === 0 ? undefined : await runner.run(work);
    };
  });
}
