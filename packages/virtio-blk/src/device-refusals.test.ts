import { describe, expect, it } from 'vitest';
import { featureBit } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_GET_LIFETIME,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_SECURE_ERASE,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_T_ZONE_REPORT,
  VIRTIO_BLK_T_ZONE_RESET_ALL,
} from '@virtlab/abi/virtio-blk';
import { POISON } from '@virtlab/guest-memory/testing';
import { createMemoryBackend } from './memory-backend.ts';
import { type RawRequest } from './testing/request.ts';
import { disk, heldDisk, range, withDevice } from './testing/scenes.ts';

const SECTOR = 512;

const join = (...parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

/** Case 45: what is refused, and how. Nothing of it is carried out. */
const REFUSED: readonly [string, RawRequest, number][] = [
  ['IN beyond the capacity', { sector: 256n, dataSize: SECTOR }, VIRTIO_BLK_S_IOERR],
  ['IN across the end', { sector: 255n, dataSize: 2 * SECTOR }, VIRTIO_BLK_S_IOERR],
  [
    'IN at 2^32 + 1, whose low word is inside',
    { sector: 0x1_0000_0001n, dataSize: SECTOR },
    VIRTIO_BLK_S_IOERR,
  ],
  ['IN at 2^44, whose byte position is 2^53', { sector: 1n << 44n, dataSize: SECTOR }, VIRTIO_BLK_S_IOERR],
  ['IN at 2^55, whose byte position wraps to 0', { sector: 1n << 55n, dataSize: SECTOR }, VIRTIO_BLK_S_IOERR],
  ['IN at 2^64 - 1', { sector: (1n << 64n) - 1n, dataSize: SECTOR }, VIRTIO_BLK_S_IOERR],
  ['IN of no whole sector', { dataSize: 511 }, VIRTIO_BLK_S_IOERR],
  ['IN that comes with data', { dataSize: SECTOR, payload: new Uint8Array(SECTOR) }, VIRTIO_BLK_S_IOERR],
  [
    'OUT beyond the capacity',
    { type: VIRTIO_BLK_T_OUT, sector: 256n, payload: new Uint8Array(SECTOR) },
    VIRTIO_BLK_S_IOERR,
  ],
  [
    'OUT across the end',
    { type: VIRTIO_BLK_T_OUT, sector: 255n, payload: new Uint8Array(1024) },
    VIRTIO_BLK_S_IOERR,
  ],
  ['OUT of no whole sector', { type: VIRTIO_BLK_T_OUT, payload: new Uint8Array(513) }, VIRTIO_BLK_S_IOERR],
  [
    'OUT that wants data',
    { type: VIRTIO_BLK_T_OUT, payload: new Uint8Array(SECTOR), dataSize: SECTOR },
    VIRTIO_BLK_S_IOERR,
  ],
  ['FLUSH with data', { type: VIRTIO_BLK_T_FLUSH, payload: new Uint8Array(SECTOR) }, VIRTIO_BLK_S_IOERR],
  ['FLUSH that wants data', { type: VIRTIO_BLK_T_FLUSH, dataSize: SECTOR }, VIRTIO_BLK_S_IOERR],
  ['FLUSH of a sector', { type: VIRTIO_BLK_T_FLUSH, sector: 1n }, VIRTIO_BLK_S_IOERR],
  [
    'GET_ID that comes with data',
    { type: VIRTIO_BLK_T_GET_ID, dataSize: 20, payload: new Uint8Array(4) },
    VIRTIO_BLK_S_IOERR,
  ],
  ['an unknown type', { type: 0x1234_5678, dataSize: SECTOR }, VIRTIO_BLK_S_UNSUPP],
  ['GET_LIFETIME, not offered', { type: VIRTIO_BLK_T_GET_LIFETIME, dataSize: 6 }, VIRTIO_BLK_S_UNSUPP],
  [
    'SECURE_ERASE with unmap',
    { type: VIRTIO_BLK_T_SECURE_ERASE, payload: range(0n, 1, 1) },
    VIRTIO_BLK_S_UNSUPP,
  ],
  [
    'SECURE_ERASE across the end',
    { type: VIRTIO_BLK_T_SECURE_ERASE, payload: range(255n, 2) },
    VIRTIO_BLK_S_IOERR,
  ],
  [
    'ZONE_REPORT of a disk without zones',
    { type: VIRTIO_BLK_T_ZONE_REPORT, dataSize: 4096 },
    VIRTIO_BLK_S_UNSUPP,
  ],
  ['ZONE_RESET_ALL of a disk without zones', { type: VIRTIO_BLK_T_ZONE_RESET_ALL }, VIRTIO_BLK_S_UNSUPP],
  ['DISCARD with unmap', { type: VIRTIO_BLK_T_DISCARD, payload: range(0n, 1, 1) }, VIRTIO_BLK_S_UNSUPP],
  [
    'DISCARD with an unknown flag',
    { type: VIRTIO_BLK_T_DISCARD, payload: range(0n, 1, 0x8000_0000) },
    VIRTIO_BLK_S_UNSUPP,
  ],
  [
    'WRITE_ZEROES whose second range has an unknown flag',
    { type: VIRTIO_BLK_T_WRITE_ZEROES, payload: join(range(0n, 1), range(1n, 1, 2)) },
    VIRTIO_BLK_S_UNSUPP,
  ],
  [
    'WRITE_ZEROES whose second range is beyond the capacity',
    { type: VIRTIO_BLK_T_WRITE_ZEROES, payload: join(range(0n, 1), range(255n, 2)) },
    VIRTIO_BLK_S_IOERR,
  ],
  [
    'WRITE_ZEROES at 2^64 - 1',
    { type: VIRTIO_BLK_T_WRITE_ZEROES, payload: range((1n << 64n) - 1n, 2) },
    VIRTIO_BLK_S_IOERR,
  ],
  [
    'WRITE_ZEROES of more than its limit',
    { type: VIRTIO_BLK_T_WRITE_ZEROES, payload: range(0n, 9) },
    VIRTIO_BLK_S_IOERR,
  ],
  [
    'DISCARD of more than its limit',
    { type: VIRTIO_BLK_T_DISCARD, payload: range(0n, 17) },
    VIRTIO_BLK_S_IOERR,
  ],
  [
    'more ranges than announced',
    { type: VIRTIO_BLK_T_WRITE_ZEROES, payload: join(range(0n, 1), range(1n, 1), range(2n, 1)) },
    VIRTIO_BLK_S_UNSUPP,
  ],
  ['no range', { type: VIRTIO_BLK_T_WRITE_ZEROES }, VIRTIO_BLK_S_IOERR],
  [
    'half a range',
    { type: VIRTIO_BLK_T_WRITE_ZEROES, payload: range(0n, 1).subarray(0, 15) },
    VIRTIO_BLK_S_IOERR,
  ],
  [
    'WRITE_ZEROES that wants data',
    { type: VIRTIO_BLK_T_WRITE_ZEROES, payload: range(0n, 1), dataSize: 16 },
    VIRTIO_BLK_S_IOERR,
  ],
];

describe('case 45: requests that are refused', () => {
  it.each(REFUSED)('%s', async (_what, request, expected) => {
    const contents = disk();
    await withDevice(
      createMemoryBackend({ contents }),
      async (requester, bench) => {
        const { status, usedSize, data } = await requester.send(bench, request);
        expect(status).toBe(expected);
        expect(data.every((byte) => byte === POISON)).toBe(true);
        expect(usedSize, '§2.7.8.2 no more than was written from the start').toBe(data.length === 0 ? 1 : 0);
        expect(contents).toEqual(disk());
        expect((await requester.send(bench, { dataSize: SECTOR })).status).toBe(VIRTIO_BLK_S_OK);
      },
      { rangeCountMax: 2, writeZeroesSectorsMax: 8, discardSectorsMax: 16 },
    );
  });

  it.each([
    ['OUT', { type: VIRTIO_BLK_T_OUT, payload: new Uint8Array(SECTOR) }],
    ['DISCARD', { type: VIRTIO_BLK_T_DISCARD, payload: range(0n, 1) }],
    ['WRITE_ZEROES', { type: VIRTIO_BLK_T_WRITE_ZEROES, payload: range(0n, 1) }],
    ['SECURE_ERASE', { type: VIRTIO_BLK_T_SECURE_ERASE, payload: range(0n, 1) }],
  ])('§5.2.6.2 %s on a read-only disk is IOERR and changes nothing', async (_what, request) => {
    const contents = disk();
    await withDevice(createMemoryBackend({ contents, readOnly: true }), async (requester, bench) => {
      expect((await requester.send(bench, request)).status).toBe(VIRTIO_BLK_S_IOERR);
      expect(contents).toEqual(disk());
      expect((await requester.send(bench, { dataSize: SECTOR })).status).toBe(VIRTIO_BLK_S_OK);
    });
  });

  it('a read-only backend is asked for nothing but reads', async () => {
    const backend = heldDisk(true);
    await withDevice(backend, async (requester, bench) => {
      const payload = new Uint8Array(SECTOR);
      expect((await requester.send(bench, { type: VIRTIO_BLK_T_OUT, payload })).status).toBe(
        VIRTIO_BLK_S_IOERR,
      );
      expect(backend.begun).toEqual([]);
    });
  });

  it('DISCARD, WRITE_ZEROES and SECURE_ERASE that were not negotiated are UNSUPP', async () => {
    await withDevice(
      createMemoryBackend({ contents: disk() }),
      async (requester, bench) => {
        for (const type of [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_SECURE_ERASE]) {
          expect((await requester.send(bench, { type, payload: range(0n, 1) })).status).toBe(
            VIRTIO_BLK_S_UNSUPP,
          );
        }
      },
      { wanted: featureBit(VIRTIO_BLK_F_FLUSH) },
    );
  });

  it('accepts what is legal at the edges: last sector, no data at the end', async () => {
    await withDevice(createMemoryBackend({ contents: disk() }), async (requester, bench) => {
      expect((await requester.send(bench, { sector: 255n, dataSize: SECTOR })).status).toBe(VIRTIO_BLK_S_OK);
      expect((await requester.send(bench, { sector: 256n })).status).toBe(VIRTIO_BLK_S_OK);
      expect((await requester.send(bench, { type: VIRTIO_BLK_T_OUT, sector: 256n })).status).toBe(
        VIRTIO_BLK_S_OK,
      );
    });
  });
});
