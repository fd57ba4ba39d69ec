import type { FeatureBits } from '@virtlab/abi/brands';
import type { VhostUserProtocolFeature } from '@virtlab/abi/vhost-user';
import { VIRTIO_ID_BLOCK } from '@virtlab/abi/virtio';
import { createBlkDriver } from '@virtlab/virtio-blk';
import { expect } from 'vitest';
import { SharedFile } from './shared-daemon.ts';
import { BLOCK_SIZE, VersionedBlocks } from './versioned-blocks.ts';
import { connectForTest, settle } from './vhost-user-link.ts';

const RECONNECT = { withinMs: 15_000, everyMs: 5 };
const BLOCKS_EACH = 4;

export interface KilledUnderLoad {
  /** Starts the device's process, which serves the image at its path. */
  readonly start: (image: SharedFile) => Promise<{ kill(): Promise<unknown> }>;
  readonly queueCount: number;
  readonly ringFeatures: FeatureBits;
  /** Requests in flight. */
  readonly depth: number;
  /** Kills, and completions before each. */
  readonly rounds: number;
  readonly completionCount: number;
  readonly seed: number;
  /** Must have been negotiated. */
  readonly protocolFeature?: VhostUserProtocolFeature;
}

export interface KilledOutcome {
  /** The image holds what was written. */
  readonly isImageRight: boolean;
  /** What the link left behind. */
  readonly left: readonly string[];
}

export const NOTHING_LOST: KilledOutcome = { isImageRight: true, left: [] };

/**
 * Kills the device's process under verified requests, again and again, and starts another. Fails when a request is lost, or
 * answered for another; answers whether in the end the image holds what was written, and what the link left behind.
 */
export async function killUnderLoad(options: KilledUnderLoad): Promise<KilledOutcome> {
  const { start, queueCount, ringFeatures, depth, rounds, completionCount, seed, protocolFeature } = options;
  using image = new SharedFile(new Uint8Array(depth * BLOCKS_EACH * BLOCK_SIZE));
  let device = await start(image);
  const under = await connectForTest({
    path: image.path,
    deviceType: VIRTIO_ID_BLOCK,
    reconnect: RECONNECT,
  });
  const { transport } = under.link;
  if (protocolFeature !== undefined) expect(transport.protocolFeatures).toContain(protocolFeature);
  const driver = await createBlkDriver(under.link, { aio: under.driverAio, queueCount, ringFeatures });
  const blocks = new VersionedBlocks(driver, depth, BLOCKS_EACH, seed);
  const until = async (condition: () => boolean): Promise<void> => {
    while (!condition() && blocks.faults.length === 0 && driver.failure === undefined) await settle();
    expect([blocks.faults, driver.failure]).toEqual([[], undefined]);
  };
  const completeMore = async (count: number): Promise<void> => {
    const target = blocks.completedCount + count;
    await until(() => blocks.completedCount >= target);
  };
  blocks.start();
  for (let round = 1; round <= rounds; round += 1) {
    await completeMore(completionCount + round);
    await device.kill();
    device = await start(image);
    await until(() => transport.reconnectCount === round);
  }
  await completeMore(completionCount);
  blocks.stop();
  await until(() => blocks.inFlightCount === 0);
  await driver.flush();
  const isImageRight = Buffer.compare(image.contents(), blocks.expected()) === 0;
  await driver.close();
  const left = await under.close();
  await device.kill();
  return { isImageRight, left };
}
