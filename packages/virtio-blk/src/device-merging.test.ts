import { describe, expect, it } from 'vitest';
import { fc } from '@fast-check/vitest';
import { featureBit } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_OUT,
} from '@virtlab/abi/virtio-blk';
import type { BlkDeviceOptions } from './device-options.ts';
import { createBlkDevice } from './device.ts';
import { createMemoryBackend } from './memory-backend.ts';
import { BlkBench } from './testing/blk-bench.ts';
import { CAMPAIGN_TIMEOUT_MS, campaign } from './testing/campaign.ts';
import { type RawRequest, RawRequester } from './testing/request.ts';
import { disk } from './testing/scenes.ts';
import { VectorBackend } from './testing/vector-backend.ts';

const SECTOR = 512;

interface Scene {
  readonly backend: VectorBackend;
  readonly contents: Uint8Array;
  readonly bench: BlkBench;
  readonly requester: RawRequester;
  readonly device: ReturnType<typeof createBlkDevice>;
  /** Statuses of requests that were made available together. */
  send(requests: readonly RawRequest[]): Promise<number[]>;
}

async function withVectors(
  body: (scene: Scene) => Promise<void>,
  options: Partial<BlkDeviceOptions> & { readonly wanted?: bigint } = {},
): Promise<void> {
  const contents = disk();
  const backend = new VectorBackend(createMemoryBackend({ contents }));
  const device = createBlkDevice({ backend, ...options });
  const bench = new BlkBench({ device });
  const requester = new RawRequester(await bench.initialize(options.wanted ?? device.features));
  const send = async (requests: readonly RawRequest[]): Promise<number[]> => {
    const tokens = requests.map((request) => requester.add(request));
    requester.kick();
    await bench.settle();
    backend.endAll();
    await bench.settle();
    backend.endAll();
    await bench.settle();
    return tokens.map((token) => requester.answer(token)!.status);
  };
  await body({ backend, contents, bench, requester, device, send });
  await bench.run(requester.stop());
  await bench.closeClean();
}

const reads = (...sectors: number[]): RawRequest[] =>
  sectors.map((sector) => ({ sector: BigInt(sector), dataSize: SECTOR }));
const write = (sector: number, fill: number, count = 1): RawRequest => ({
  type: VIRTIO_BLK_T_OUT,
  sector: BigInt(sector),
  payload: new Uint8Array(count * SECTOR).fill(fill),
});

describe.each([false, true])('merging, operations that end late: %s', (isHeld) => {
  it('requests of a run that follow each other on the disk are one operation; each gets its own data', async () => {
    await withVectors(async ({ backend, contents, requester, device, send }) => {
      backend.isHeld = isHeld;
      const first = requester.add({ sector: 200n, dataSize: SECTOR });
      expect(await send(reads(4, 5, 6, 9, 10))).toEqual([0, 0, 0, 0, 0]);
      expect(backend.begun).toEqual(['read 102400+512', 'read 2048+1536 x3', 'read 4608+1024 x2']);
      expect(device.statistics).toMatchObject({ reads: 6, merged: 3 });
      for (const [index, sector] of [200, 4, 5, 6, 9, 10].entries()) {
        expect(requester.answer(first + index)!.data).toEqual(
          contents.slice(sector * SECTOR, (sector + 1) * SECTOR),
        );
      }
    });
  });

  it('writes too; never with reads, nor across anything else', async () => {
    await withVectors(async ({ backend, contents, send }) => {
      backend.isHeld = isHeld;
      const flush = { type: VIRTIO_BLK_T_FLUSH };
      await send([write(0, 1), write(1, 2), ...reads(2, 3), write(4, 3), flush, write(5, 4), write(6, 5, 2)]);
      expect(backend.begun).toEqual([
        'write 0+1024 x2',
        'read 1024+1024 x2',
        'write 2048+512',
        'flush',
        'write 2560+1536 x2',
      ]);
      expect([0, 1, 4, 5, 6, 7].map((sector) => contents[sector * SECTOR])).toEqual([1, 2, 3, 4, 5, 5]);
    });
  });

  it('a failure is that of the request that it belongs to: the others are tried alone', async () => {
    await withVectors(async ({ backend, contents, send }) => {
      backend.isHeld = isHeld;
      backend.badSector = 12;
      expect(await send([write(10, 7), write(11, 7), write(12, 7), write(13, 7)])).toEqual([
        VIRTIO_BLK_S_OK,
        VIRTIO_BLK_S_OK,
        VIRTIO_BLK_S_IOERR,
        VIRTIO_BLK_S_OK,
      ]);
      expect([10, 11, 12, 13].map((sector) => contents[sector * SECTOR])).toEqual([
        7,
        7,
        disk()[12 * SECTOR],
        7,
      ]);
    });
  });

  it('within its limits on requests and bytes; one request switches it off', async () => {
    const operations = async (options: Partial<BlkDeviceOptions>): Promise<string[]> => {
      let begun: string[] = [];
      await withVectors(async ({ backend, send }) => {
        backend.isHeld = isHeld;
        await send(reads(0, 1, 2, 3, 4));
        begun = backend.begun;
      }, options);
      return begun;
    };
    expect(await operations({ mergeCountMax: 2 })).toEqual([
      'read 0+1024 x2',
      'read 1024+1024 x2',
      'read 2048+512',
    ]);
    expect(await operations({ mergeSizeMax: 1536 })).toEqual(['read 0+1536 x3', 'read 1536+1024 x2']);
    expect(await operations({ mergeCountMax: 1 })).toEqual(
      [0, 1, 2, 3, 4].map((at) => `read ${at * 512}+512`),
    );
  });

  it('in write-through each of the merged requests is flushed before it completes', async () => {
    await withVectors(
      async ({ backend, send }) => {
        backend.isHeld = isHeld;
        expect(await send([write(0, 1), write(1, 1)])).toEqual([0, 0]);
        expect(backend.begun).toEqual(['write 0+1024 x2', 'flush', 'flush']);
      },
      { wanted: featureBit(VIRTIO_BLK_F_DISCARD) },
    );
  });
});

it(
  'merged or not, the disk ends the same',
  async () => {
    const steps = fc.array(
      fc.record({
        isWrite: fc.boolean(),
        sector: fc.nat(20),
        count: fc.integer({ min: 0, max: 4 }),
        fill: fc.nat(255),
      }),
      { minLength: 1, maxLength: 8 },
    );
    await fc.assert(
      fc.asyncProperty(
        steps,
        fc.boolean(),
        fc.integer({ min: 1, max: 5 }),
        async (all, isHeld, mergeCountMax) => {
          const model = disk();
          await withVectors(
            async ({ backend, contents, send }) => {
              backend.isHeld = isHeld;
              const requests = all.map(({ isWrite, sector, count, fill }) =>
                isWrite ? write(sector, fill, count) : { sector: BigInt(sector), dataSize: count * SECTOR },
              );
              expect((await send(requests)).every((status) => status === VIRTIO_BLK_S_OK)).toBe(true);
              for (const { isWrite, sector, count, fill } of all) {
                if (isWrite) model.fill(fill, sector * SECTOR, (sector + count) * SECTOR);
              }
              expect(Buffer.from(contents).equals(model)).toBe(true);
            },
            { mergeCountMax },
          );
        },
      ),
      campaign(60),
    );
  },
  CAMPAIGN_TIMEOUT_MS,
);
