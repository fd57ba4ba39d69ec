import { describe, expect, it } from 'vitest';
import { fc } from '@fast-check/vitest';
import { VIRTIO_CONFIG_S_NEEDS_RESET, featureBit, featureBits } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_SECURE_ERASE,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from '@virtlab/abi/virtio-blk';
import { ALL_RING_FEATURES } from '@virtlab/virtio';
import { createMemoryBackend } from './memory-backend.ts';
import { createSparseBackend } from './sparse-backend.ts';
import { createBlkDevice } from './device.ts';
import { decodeConfig } from './protocol.ts';
import { BlkBench } from './testing/blk-bench.ts';
import { RawRequester, header } from './testing/request.ts';
import { disk, range, withDevice } from './testing/scenes.ts';

const SECTOR = 512;

const join = (...parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

describe('§5.2.6 requests', () => {
  it('IN fills the data and ends with OK; the used length counts data and status', async () => {
    const contents = disk();
    await withDevice(createMemoryBackend({ contents }), async (requester, bench) => {
      const { status, usedSize, data } = await requester.send(bench, { sector: 3n, dataSize: 1024 });
      expect([status, usedSize]).toEqual([VIRTIO_BLK_S_OK, 1025]);
      expect(data).toEqual(contents.slice(3 * SECTOR, 5 * SECTOR));
    });
  });

  it('OUT stores the payload and ends with OK; the used length is the status', async () => {
    const contents = disk();
    const expected = disk();
    await withDevice(createMemoryBackend({ contents }), async (requester, bench) => {
      const payload = new Uint8Array(1024).fill(0xc3);
      const answer = await requester.send(bench, { type: VIRTIO_BLK_T_OUT, sector: 62n, payload });
      expect([answer.status, answer.usedSize]).toEqual([VIRTIO_BLK_S_OK, 1]);
      expected.set(payload, 62 * SECTOR);
      expect(contents).toEqual(expected);
    });
  });

  it.each([
    ['20 characters, not ended by NUL', 'abcdefghijklmnopqrst', 20, 'abcdefghijklmnopqrst', 21],
    ['shorter, padded with NUL', 'sn-1', 20, 'sn-1'.padEnd(20, '\0'), 21],
    ['cut to a shorter buffer', 'abcdefghij', 4, 'abcd', 5],
    [
      'to a longer buffer, of which 20 bytes are written',
      'abc',
      24,
      `${'abc'.padEnd(20, '\0')}\xdb\xdb\xdb\xdb`,
      20,
    ],
  ])('GET_ID gives the serial: %s', async (_what, serial, dataSize, text, usedSize) => {
    await withDevice(
      createMemoryBackend({ contents: disk() }),
      async (requester, bench) => {
        const answer = await requester.send(bench, { type: VIRTIO_BLK_T_GET_ID, dataSize });
        expect([answer.status, answer.usedSize]).toEqual([VIRTIO_BLK_S_OK, usedSize]);
        expect(Buffer.from(answer.data).toString('latin1')).toBe(text);
      },
      { serial },
    );
  });

  it('WRITE_ZEROES zeroes every range; DISCARD of a sparse disk gives space back', async () => {
    const contents = disk();
    await withDevice(createMemoryBackend({ contents }), async (requester, bench) => {
      const payload = join(range(1n, 2), range(60n, 4, 1), range(10n, 0));
      const { status } = await requester.send(bench, { type: VIRTIO_BLK_T_WRITE_ZEROES, payload });
      const expected = disk();
      expected.fill(0, SECTOR, 3 * SECTOR).fill(0, 60 * SECTOR, 64 * SECTOR);
      expect(status).toBe(VIRTIO_BLK_S_OK);
      expect(contents).toEqual(expected);
    });
    const sparse = createSparseBackend({ capacitySectors: 1024 });
    await withDevice(sparse, async (requester, bench) => {
      await requester.send(bench, { type: VIRTIO_BLK_T_OUT, payload: new Uint8Array(SECTOR).fill(1) });
      expect(sparse.allocatedSize).toBeGreaterThan(0);
      const { status } = await requester.send(bench, {
        type: VIRTIO_BLK_T_DISCARD,
        payload: range(0n, 1024),
      });
      expect([status, sparse.allocatedSize]).toEqual([VIRTIO_BLK_S_OK, 0]);
    });
  });

  it('case 44, §2.7.4: no framing is assumed: any cut of header, data and status gives the same answer', async () => {
    const contents = disk();
    await withDevice(createMemoryBackend({ contents }), async (requester, bench) => {
      const cuts = fc.array(fc.integer({ min: 1, max: 700 }), { maxLength: 12 });
      await fc.assert(
        fc.asyncProperty(
          cuts,
          cuts,
          fc.integer({ min: 0, max: 60 }),
          fc.nat(255),
          async (first, second, sector, fill) => {
            const payload = new Uint8Array(3 * SECTOR).fill(fill);
            const written = await requester.send(bench, {
              type: VIRTIO_BLK_T_OUT,
              sector: BigInt(sector),
              payload,
              readableCuts: first,
            });
            const read = await requester.send(bench, {
              sector: BigInt(sector),
              dataSize: 3 * SECTOR,
              readableCuts: second,
              writableCuts: first,
            });
            expect([written.status, read.status, read.usedSize]).toEqual([0, 0, 3 * SECTOR + 1]);
            expect(read.data).toEqual(payload);
          },
        ),
        { numRuns: 60 },
      );
    });
  });
});

describe('framing that leaves no room for header or status', () => {
  it.each([
    ['no header', { readable: new Uint8Array(), writableSize: 513 }],
    ['a short header', { readable: header(VIRTIO_BLK_T_IN, 0n).subarray(0, 15), writableSize: 513 }],
    ['no status', { type: VIRTIO_BLK_T_OUT, payload: new Uint8Array(SECTOR), writableSize: 0 }],
  ])('%s makes the device need a reset and is reported', async (_what, request) => {
    const contents = disk();
    await withDevice(createMemoryBackend({ contents }), async (requester, bench) => {
      const token = requester.add(request);
      requester.kick();
      await bench.until('device needs reset', () => (bench.host.status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0);
      expect(bench.violations).toMatchObject([{ violation: { section: '5.2.6' } }]);
      expect(requester.answer(token)).toBeUndefined();
      expect(contents).toEqual(disk());
    });
  });

  it('requests before it are answered, and a reset makes the device good again', async () => {
    const device = createBlkDevice({ backend: createMemoryBackend({ contents: disk() }) });
    const bench = new BlkBench({ device });
    const broken = new RawRequester(await bench.initialize(device.features));
    broken.add({ dataSize: SECTOR });
    broken.add({ readable: new Uint8Array(4), writableSize: 1 });
    broken.kick();
    await bench.until('device needs reset', () => (bench.host.status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0);
    await bench.run(broken.stop());
    const again = new RawRequester(await bench.initialize(device.features));
    expect((await again.send(bench, { dataSize: SECTOR })).status).toBe(VIRTIO_BLK_S_OK);
    await bench.run(again.stop());
    await bench.closeClean();
  });
});

describe('what the device offers', () => {
  const BASE =
    ALL_RING_FEATURES |
    featureBits(VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_CONFIG_WCE);
  const WRITABLE = featureBits(VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_F_SECURE_ERASE);

  it.each([
    ['a writable disk', {}, false, BASE | WRITABLE],
    ['a read-only disk', {}, true, BASE | featureBit(VIRTIO_BLK_F_RO)],
    ['several queues', { queueCount: 4 }, false, BASE | WRITABLE | featureBit(VIRTIO_BLK_F_MQ)],
    ['a size limit', { sizeMax: 4096 }, false, BASE | WRITABLE | featureBit(VIRTIO_BLK_F_SIZE_MAX)],
  ])('§5.2.3 %s', (_what, options, readOnly, features) => {
    const backend = createMemoryBackend({ contents: disk(), readOnly });
    expect(createBlkDevice({ backend, ...options }).features).toBe(features);
  });

  it('§5.2.4 configuration follows backend and options', () => {
    const backend = createMemoryBackend({ contents: disk(), blockSize: 4096 });
    const device = createBlkDevice({
      backend,
      queueCount: 2,
      queueSize: 64,
      sizeMax: 65536,
      rangeCountMax: 3,
    });
    const bytes = new Uint8Array(device.configSize);
    device.readConfig(0, bytes);
    expect(decodeConfig(bytes)).toMatchObject({
      capacity: 256n,
      size_max: 65536,
      seg_max: 62,
      blk_size: 4096,
      num_queues: 2,
      max_discard_seg: 3,
      discard_sector_alignment: 8,
      max_write_zeroes_sectors: 8192,
      max_write_zeroes_seg: 3,
      write_zeroes_may_unmap: 0,
    });
    expect(device.queueSizesMax).toEqual([64, 64]);
  });

  it.each([
    { serial: 'more than twenty chars' },
    { serial: 'umläut' },
    { queueCount: 0 },
    { queueSize: 2 },
    { segMax: 0 },
    { sizeMax: 511 },
    { rangeCountMax: 0 },
  ])('refuses %o', (options) => {
    const backend = createMemoryBackend({ contents: disk() });
    expect(() => createBlkDevice({ backend, ...options })).toThrow(RangeError);
  });
});
