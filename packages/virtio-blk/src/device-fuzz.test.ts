/** Structure-aware: requests of every type, in every cut, with sectors, sizes and flags at the edges, against a model. */
import { describe, expect, it } from 'vitest';
import { fc } from '@fast-check/vitest';
import type { FeatureBits } from '@virtlab/abi/brands';
import {
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_RING_PACKED,
  featureBit,
} from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_SECURE_ERASE,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_T_ZONE_APPEND,
} from '@virtlab/abi/virtio-blk';
import { POISON } from '@virtlab/guest-memory/testing';
import { ALL_RING_FEATURES, RING_FEATURES } from '@virtlab/virtio';
import { createBlkDevice } from './device.ts';
import { createMemoryBackend } from './memory-backend.ts';
import { BlkBench } from './testing/blk-bench.ts';
import { CAMPAIGN_TIMEOUT_MS, campaign } from './testing/campaign.ts';
import { type ModelRequest, expectedStatus } from './testing/disk-model.ts';
import { RawRequester, header } from './testing/request.ts';
import { CAPACITY, disk, range, withDevice } from './testing/scenes.ts';
import { VectorBackend } from './testing/vector-backend.ts';
import { zonedDisk } from './testing/zoned.ts';

const SECTOR = 512;
const LIMITS = {
  rangeCountMax: 3,
  writeZeroesSectorsMax: 40,
  discardSectorsMax: 40,
  secureEraseSectorsMax: 40,
};

const EMPTY = new Uint8Array();
/** §2.2: bits 0 to 23. */
const DEVICE_TYPE_FEATURES: FeatureBits = (1n << 24n) - 1n;
const ringOf = fc.constantFrom<FeatureBits>(
  0n,
  RING_FEATURES,
  RING_FEATURES | featureBit(VIRTIO_F_RING_PACKED),
  ALL_RING_FEATURES,
  featureBit(VIRTIO_F_IN_ORDER),
);

const sectorOf = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0, max: CAPACITY + 4 }).map(BigInt) },
  { weight: 3, arbitrary: fc.integer({ min: CAPACITY - 7, max: CAPACITY + 1 }).map(BigInt) },
  fc.constantFrom(0n, 1n << 32n, (1n << 32n) + 3n, 1n << 44n, 1n << 55n, (1n << 63n) - 1n, 1n << 63n),
  fc.bigInt({ min: (1n << 64n) - 300n, max: (1n << 64n) - 1n }),
);
const sizeOf = fc.oneof(
  { weight: 4, arbitrary: fc.nat(6).map((count) => count * SECTOR) },
  fc.constantFrom(0, 1, 6, 15, 16, 20, 64, 511, 513),
);
const typeOf = fc.oneof(
  { weight: 10, arbitrary: fc.constantFrom(0, 0, 1, 1, 4, 8, 10, 11, 13, 13, 14) },
  { weight: 3, arbitrary: fc.constantFrom(15, 16, 18, 20, 22, 24, 26) },
  fc.constantFrom(2, 3, 5, 0x8000_0001, 0xffff_ffff),
);
const rangeOf = fc
  .tuple(
    sectorOf,
    fc.oneof({ weight: 6, arbitrary: fc.nat(9) }, fc.nat(45), fc.constantFrom(0xffff_ffff, 256)),
    fc.constantFrom(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0x8000_0000),
  )
  .map(([sector, count, flags]) => range(sector, count, flags));
const payloadOf = fc.oneof(
  { weight: 2, arbitrary: fc.constant(new Uint8Array()) },
  {
    weight: 4,
    arbitrary: fc.tuple(sizeOf, fc.nat(255)).map(([size, fill]) => new Uint8Array(size).fill(fill)),
  },
  {
    weight: 4,
    arbitrary: fc.array(rangeOf, { maxLength: 4 }).map((ranges) => new Uint8Array(Buffer.concat(ranges))),
  },
);
const cutsOf = fc.array(fc.integer({ min: 1, max: 900 }), { maxLength: 6 });
const dataOf = fc
  .tuple(fc.nat(6), fc.nat(255))
  .map(([count, fill]) => new Uint8Array(count * SECTOR).fill(fill));
const rangesOf = fc
  .array(rangeOf, { minLength: 1, maxLength: 3 })
  .map((ranges) => new Uint8Array(Buffer.concat(ranges)));
const NOTHING = fc.constant(new Uint8Array());
const cuts = { readableCuts: cutsOf, writableCuts: cutsOf };
/** Everything may be wrong at once; or the shape is right and the numbers decide. */
const requestOf = fc.oneof(
  fc.record({
    type: typeOf,
    sector: sectorOf,
    payload: payloadOf,
    dataSize: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, sizeOf),
    ...cuts,
  }),
  fc.record({
    type: fc.constant(VIRTIO_BLK_T_IN as number),
    sector: sectorOf,
    payload: NOTHING,
    dataSize: fc.nat(6).map((count) => count * SECTOR),
    ...cuts,
  }),
  fc.record({
    type: fc.constant(VIRTIO_BLK_T_OUT as number),
    sector: sectorOf,
    payload: dataOf,
    dataSize: fc.constant(0),
    ...cuts,
  }),
  fc.record({
    type: fc.constantFrom<number>(VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_SECURE_ERASE),
    sector: fc.constant(0n),
    payload: rangesOf,
    dataSize: fc.constant(0),
    ...cuts,
  }),
);

/** Sends requests one after the other or all at once; each must get what the model says, in the order of the ring. */
async function compare(
  requests: readonly (ModelRequest & { readonly readableCuts: number[]; readonly writableCuts: number[] })[],
  {
    readOnly,
    isBatch,
    hasVectors,
    ring,
  }: {
    readonly readOnly: boolean;
    readonly isBatch: boolean;
    readonly hasVectors: boolean;
    readonly ring: FeatureBits;
  },
): Promise<void> {
  const contents = disk();
  const model = { contents: disk(), readOnly, rangeCountMax: 3, rangeSectorsMax: 40 };
  const memory = createMemoryBackend({ contents, readOnly });
  const backend = hasVectors && !readOnly ? new VectorBackend(memory) : memory;
  await withDevice(
    backend,
    async (requester, bench) => {
      const sent: [number, number, ModelRequest, Uint8Array][] = [];
      for (const request of requests) {
        // A vector backend of the tests has no secure erase.
        if (request.type === 14 && hasVectors) continue;
        // A batch ends where the ring is full.
        const pieceCountMax = request.readableCuts.length + request.writableCuts.length + 2;
        if (requester.freeCount < pieceCountMax) {
          requester.kick();
          await bench.settle();
        }
        const before = request.type === VIRTIO_BLK_T_IN ? model.contents.slice() : EMPTY;
        const token = requester.add(request);
        sent.push([token, expectedStatus(model, request), request, before]);
        if (isBatch) continue;
        requester.kick();
        await bench.settle();
      }
      requester.kick();
      await bench.settle();
      expect(bench.host.status & VIRTIO_CONFIG_S_NEEDS_RESET).toBe(0);
      for (const [token, expected, request, before] of sent) {
        const { status, data, usedSize } = requester.answer(token)!;
        expect(status, `type ${request.type} sector ${request.sector}`).toBe(expected);
        expect(usedSize).toBeLessThanOrEqual(data.length + 1);
        const at = Number(request.sector) * SECTOR;
        const isRead = request.type === VIRTIO_BLK_T_IN && status === VIRTIO_BLK_S_OK;
        const due = isRead ? before.subarray(at, at + data.length) : new Uint8Array(data.length).fill(POISON);
        expect(isRead || status !== VIRTIO_BLK_S_OK ? Buffer.from(data).equals(due) : true).toBe(true);
      }
      expect(Buffer.from(contents).equals(model.contents)).toBe(true);
    },
    { ...LIMITS, wanted: ring | DEVICE_TYPE_FEATURES },
  );
}

describe('case 45, fuzzed', () => {
  it(
    'statuses, data and what becomes of the disk are as the model says',
    async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(requestOf, { minLength: 1, maxLength: 8 }),
          fc.record({
            readOnly: fc.boolean(),
            isBatch: fc.boolean(),
            hasVectors: fc.boolean(),
            ring: ringOf,
          }),
          compare,
        ),
        campaign(80),
      );
    },
    CAMPAIGN_TIMEOUT_MS,
  );

  it(
    'a zoned disk answers everything with a status that exists, and goes on',
    async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.record({ request: requestOf, zone: fc.nat(9) }), { minLength: 1, maxLength: 12 }),
          fc.constantFrom('host-managed' as const, 'host-aware' as const),
          async (all, model) => {
            const backend = zonedDisk({ model, maxOpenZones: 2, maxActiveZones: 3 });
            await withDevice(
              backend,
              async (requester, bench) => {
                for (const { request, zone } of all) {
                  const isAppend = request.type === VIRTIO_BLK_T_ZONE_APPEND;
                  const sector =
                    request.type >= VIRTIO_BLK_T_ZONE_APPEND ? BigInt(zone * 32) : request.sector;
                  const dataSize = isAppend ? 8 : request.dataSize;
                  const { status } = await requester.send(bench, { ...request, sector, dataSize });
                  expect(status).toBeLessThanOrEqual(VIRTIO_BLK_S_ZONE_ACTIVE_RESOURCE);
                  expect(backend.openZoneCount).toBeLessThanOrEqual(2);
                  expect(backend.activeZoneCount).toBeLessThanOrEqual(3);
                }
                expect((await requester.send(bench, { dataSize: SECTOR })).status).toBe(VIRTIO_BLK_S_OK);
              },
              LIMITS,
            );
          },
        ),
        campaign(60),
      );
    },
    CAMPAIGN_TIMEOUT_MS,
  );

  it(
    'any bytes in any cut: an answer, or the device needs reset and is good again after it; it never throws',
    async () => {
      const bytes = fc.oneof(
        fc.uint8Array({ maxLength: 40 }),
        requestOf.map(({ type, sector, payload }) => header(type, sector, payload)),
      );
      const chain = fc.record({
        readable: bytes,
        writableSize: fc.nat(1200),
        readableCuts: cutsOf,
        writableCuts: cutsOf,
      });
      await fc.assert(
        fc.asyncProperty(
          fc.array(chain, { minLength: 1, maxLength: 8 }),
          fc.boolean(),
          async (chains, isZoned) => {
            const backend = isZoned ? zonedDisk() : createMemoryBackend({ contents: disk() });
            const device = createBlkDevice({ backend, ...LIMITS });
            const bench = new BlkBench({ device });
            const requester = new RawRequester(await bench.initialize(device.features));
            const usable = chains.filter(({ readable, writableSize }) => readable.length + writableSize > 0);
            const tokens = usable.map((each) => requester.add(each));
            requester.kick();
            await bench.settle();
            const broken = usable.findIndex(
              ({ readable, writableSize }) => readable.length < 16 || writableSize < 1,
            );
            const isBroken = (bench.host.status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0;
            expect(isBroken).toBe(broken >= 0);
            const answered = tokens.filter((token) => requester.answer(token) !== undefined).length;
            expect(broken < 0 ? answered : tokens.length).toBe(tokens.length);
            await bench.run(requester.stop());
            const again = new RawRequester(await bench.initialize(device.features));
            expect((await again.send(bench, { dataSize: SECTOR })).status).toBe(VIRTIO_BLK_S_OK);
            await bench.run(again.stop());
            await bench.closeClean();
          },
        ),
        campaign(60),
      );
    },
    CAMPAIGN_TIMEOUT_MS,
  );
});
