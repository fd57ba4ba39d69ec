import { describe, expect, it } from 'vitest';
import { featureBits } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_WRITE_ZEROES,
} from '@virtlab/abi/virtio-blk';
import {
  BLK_CONFIG_SIZE,
  configSizeFor,
  decodeConfig,
  encodeConfig,
  sectorFromWords,
  sectorHigh,
  sectorLow,
  writeHeader,
  writeRange,
} from './protocol.ts';

const bytesOf = (words: Uint32Array): string => Buffer.from(words.buffer).toString('hex');

describe('virtio-blk on the wire', () => {
  it('§5.2.6 request header: type, reserved, sector, little-endian', () => {
    const words = new Uint32Array(4).fill(0xffff_ffff);
    writeHeader(words, 0, 1, 0x1_2345_6789);
    expect(bytesOf(words)).toBe('01000000000000008967452301000000');
  });

  it('§5.2.6 discard and write zeroes range: sector, num_sectors, flags', () => {
    const words = new Uint32Array(4);
    writeRange(words, 0, 0x2_0000_0001, 0x10, 1);
    expect(bytesOf(words)).toBe('01000000020000001000000001000000');
  });

  it('§5.2.4 configuration space of 1.2 has 72 bytes, each field in its place', () => {
    const config = encodeConfig({
      capacity: 0x0102_0304_0506_0708n,
      size_max: 0x11,
      seg_max: 0x22,
      blk_size: 512,
      num_queues: 3,
      max_discard_sectors: 0x33,
      max_discard_seg: 0x44,
      discard_sector_alignment: 0x55,
      max_write_zeroes_sectors: 0x66,
      max_write_zeroes_seg: 0x77,
      write_zeroes_may_unmap: 1,
    });
    expect(BLK_CONFIG_SIZE).toBe(72);
    expect(Buffer.from(config).toString('hex')).toBe(
      [
        '0807060504030201', // 0 capacity
        '11000000', // 8 size_max
        '22000000', // 12 seg_max
        '00000000', // 16 geometry
        '00020000', // 20 blk_size
        '0000000000000000', // 24 topology
        '00000300', // 32 writeback, 34 num_queues
        '33000000', // 36 max_discard_sectors
        '44000000', // 40 max_discard_seg
        '55000000', // 44 discard_sector_alignment
        '66000000', // 48 max_write_zeroes_sectors
        '77000000', // 52 max_write_zeroes_seg
        '01000000', // 56 write_zeroes_may_unmap
        '000000000000000000000000', // 60 secure erase
      ].join(''),
    );
    expect(decodeConfig(config)).toMatchObject({ capacity: 0x0102_0304_0506_0708n, num_queues: 3 });
  });

  it('§2.5 a driver reads no further than the features it negotiated reach', () => {
    expect(configSizeFor(0n)).toBe(8);
    expect(configSizeFor(featureBits(VIRTIO_BLK_F_SEG_MAX))).toBe(16);
    expect(configSizeFor(featureBits(VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_BLK_SIZE))).toBe(24);
    expect(configSizeFor(featureBits(VIRTIO_BLK_F_MQ))).toBe(36);
    expect(configSizeFor(featureBits(VIRTIO_BLK_F_DISCARD))).toBe(48);
    expect(configSizeFor(featureBits(VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES))).toBe(57);
  });

  it.each([
    [0, 0, 0],
    [0xffff_ffff, 0, 0xffff_ffff],
    [0, 1, 2 ** 32],
    [0xffff_ffff, 0xfff, 2 ** 44 - 1],
  ])('sector words 0x%x 0x%x are sector %d, both ways', (low, high, sector) => {
    expect(sectorFromWords(low, high)).toBe(sector);
    expect([sectorLow(sector), sectorHigh(sector)]).toEqual([low, high]);
  });

  it.each([
    [0, 0x1000],
    [0xffff_ffff, 0xffff_ffff],
  ])('sector words 0x%x 0x%x are beyond every disk, not a rounded number', (low, high) => {
    expect(sectorFromWords(low, high)).toBe(Number.POSITIVE_INFINITY);
  });
});
