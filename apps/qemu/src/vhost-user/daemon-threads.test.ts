import { VIRTIO_F_RING_PACKED, VIRTIO_ID_BLOCK, featureBit } from '@virtlab/abi/virtio';
import { VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import { describeWithFfi } from '@virtlab/linux/testing';
import { RING_FEATURES } from '@virtlab/virtio';
import { describeBlkDriver } from '@virtlab/virtio-blk/conformance';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Daemon } from '../backends/testing/daemon.ts';
import { NOTHING_LOST, killUnderLoad } from './testing/killed-under-load.ts';
import { SharedFile } from './testing/shared-daemon.ts';
import { connectForTest } from './testing/vhost-user-link.ts';

const CAPACITY = 2048;
const QUEUE_COUNT = 4;
const SERIAL = 'two threads';
const DEPTH = 32;
const ROUNDS = Number(process.env['VIRTLAB_CAMPAIGN'] ?? 1) * 3;
const SEED = Number(process.env['VIRTLAB_SEED'] ?? Date.now() % 2 ** 31);
const PACKED = featureBit(VIRTIO_F_RING_PACKED);

/** The daemon with more queues than threads, and more than one of both. */
async function startDaemon({ file, path }: SharedFile): Promise<Daemon> {
  const place = ['--socket-path', path, '--blk-file', file, '--discard', '--serial', SERIAL];
  return await Daemon.start('vhost-user-blk', ...place, '--num-queues', `${QUEUE_COUNT}`, '--threads', '2');
}

describeWithFfi('a disk of the daemon, its queues on two threads', () => {
  describe('virtio-blk', () => {
    const image = new SharedFile(new Uint8Array(CAPACITY * VIRTIO_BLK_SECTOR_SIZE));
    let daemon: Daemon | undefined;
    beforeAll(async () => {
      daemon = await startDaemon(image);
    });
    afterAll(async () => {
      expect(await daemon?.end()).toBe(143);
      image[Symbol.dispose]();
    });
    describeBlkDriver({
      name: 'vhost-user-blk, raw file, four queues on two threads',
      queueCount: QUEUE_COUNT,
      capacitySectors: CAPACITY,
      serial: SERIAL,
      create: async () => {
        const under = await connectForTest({ path: image.path, deviceType: VIRTIO_ID_BLOCK });
        return { ...under, contents: () => image.contents() };
      },
    });
  });

  it.each([
    ['split', RING_FEATURES],
    ['packed', RING_FEATURES | PACKED],
  ])(
    `that is killed and started again loses no request (INFLIGHT_SHMFD), %s, seed ${SEED}`,
    async (_, ringFeatures) => {
      const outcome = await killUnderLoad({
        start: async (image) => {
          const daemon = await startDaemon(image);
          return { kill: () => daemon.end('SIGKILL') };
        },
        queueCount: QUEUE_COUNT,
        ringFeatures,
        depth: DEPTH,
        rounds: ROUNDS,
        completionCount: 300,
        seed: SEED,
        protocolFeature: 'INFLIGHT_SHMFD',
      });
      expect(outcome).toEqual(NOTHING_LOST);
    },
    60_000,
  );
});
