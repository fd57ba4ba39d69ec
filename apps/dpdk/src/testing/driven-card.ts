import { VIRTIO_ID_NET } from '@virtlab/abi/virtio';
import { createNodeAioContext } from '@virtlab/aio/node';
import { type ConnectVhostUserOptions, type VhostUserLink, connectVhostUser } from '@virtlab/vhost-user';
import { type NetDriver, type NetDriverOptions, createNetDriver } from '@virtlab/virtio-net';
import { expect } from 'vitest';

export interface DrivenCardOptions {
  readonly driver?: Partial<NetDriverOptions>;
  readonly link?: Partial<ConnectVhostUserOptions>;
}

/** A card in another process under our driver, for as long as `body` takes. Nothing of it is left afterwards. */
export async function withDrivenCard(
  path: string,
  options: DrivenCardOptions,
  body: (driver: NetDriver, link: VhostUserLink) => Promise<void>,
): Promise<void> {
  const aio = createNodeAioContext();
  const link = await connectVhostUser({ path, aio, deviceType: VIRTIO_ID_NET, ...options.link });
  try {
    const driver = await createNetDriver(link, { aio, controlElsewhere: true, ...options.driver });
    try {
      await body(driver, link);
    } finally {
      await driver.close();
    }
  } finally {
    await link[Symbol.asyncDispose]();
  }
  expect(aio.leaks()).toEqual([]);
  expect([link.dma.usedPages, link.dma.lentCount]).toEqual([0, 0]);
  aio[Symbol.dispose]();
}
