import { createNodeAioContext } from '@virtlab/aio/node';
import { openFdCount } from '@virtlab/linux';
import { type ConnectVhostUserOptions, type VhostUserLink, connectVhostUser } from '@virtlab/vhost-user';
import type { ForeignUnderTest } from '@virtlab/virtio/conformance';

export interface LinkUnderTest extends ForeignUnderTest {
  readonly link: VhostUserLink;
}

/** A link with a loop of its own, that names what it left behind when it is closed: memory, descriptors, handlers. */
export async function connectForTest(options: Omit<ConnectVhostUserOptions, 'aio'>): Promise<LinkUnderTest> {
  const fdCount = openFdCount();
  const aio = createNodeAioContext();
  const link = await connectVhostUser({ memorySize: 16 << 20, ...options, aio });
  return {
    link,
    driverAio: aio,
    settle,
    close: async () => {
      const { dma } = link;
      const memory = { pages: dma.usedPages, shares: dma.lentCount, 'coherent buffers': dma.coherentCount };
      await link[Symbol.asyncDispose]();
      const held = { ...memory, 'file descriptors': openFdCount() - fdCount };
      const leaks = Object.entries(held).flatMap(([what, count]) =>
        count === 0 ? [] : [`${count} ${what}`],
      );
      leaks.push(...aio.leaks());
      aio[Symbol.dispose]();
      return leaks;
    },
  };
}

/** A turn of the event loop, and a moment for the other process. */
export async function settle(): Promise<void> {
  await new Promise((resolve) => void setTimeout(resolve, 1));
}
