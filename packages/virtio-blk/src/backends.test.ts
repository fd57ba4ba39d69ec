import { describe, expect, it } from 'vitest';
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK } from '@virtlab/abi/virtio-blk';
import { memoryRegion } from '@virtlab/guest-memory';
import { createMemoryBackend } from './memory-backend.ts';
import { createNullBackend } from './null-backend.ts';
import { createSparseBackend } from './sparse-backend.ts';

const TOKEN = 0;
const region = (size = 4096) => memoryRegion(new ArrayBuffer(size));

describe('memory backend', () => {
  it('reads and writes the bytes it was given, in place', () => {
    const contents = new Uint8Array(2048);
    const backend = createMemoryBackend({ contents });
    const guest = region();
    guest.u8.set([1, 2, 3, 4], 100);
    expect(backend.capacitySectors).toBe(4);
    expect(backend.write(guest, 100, 4, 1022, TOKEN)).toBe(VIRTIO_BLK_S_OK);
    expect([...contents.subarray(1020, 1028)]).toEqual([0, 0, 1, 2, 3, 4, 0, 0]);
    expect(backend.read(guest, 8, 4, 1022, TOKEN)).toBe(VIRTIO_BLK_S_OK);
    expect([...guest.u8.subarray(6, 14)]).toEqual([0, 0, 1, 2, 3, 4, 0, 0]);
    expect(backend.writeZeroes(1022, 2, true, TOKEN)).toBe(VIRTIO_BLK_S_OK);
    expect([...contents.subarray(1020, 1028)]).toEqual([0, 0, 0, 0, 3, 4, 0, 0]);
  });

  it('changes nothing when it is read-only', () => {
    const contents = new Uint8Array(512).fill(7);
    const backend = createMemoryBackend({ contents, readOnly: true });
    expect(backend.write(region(), 0, 512, 0, TOKEN)).toBe(VIRTIO_BLK_S_IOERR);
    expect(backend.writeZeroes(0, 512, false, TOKEN)).toBe(VIRTIO_BLK_S_IOERR);
    expect(contents.every((byte) => byte === 7)).toBe(true);
  });

  it.each([0, 511, 513, Number.NaN])('refuses %d bytes', (size) => {
    expect(() => createMemoryBackend({ contents: size })).toThrow(RangeError);
  });

  it.each([256, 1000, 131072])('refuses a block size of %d', (blockSize) => {
    expect(() => createMemoryBackend({ contents: 4096, blockSize })).toThrow(RangeError);
  });
});

describe('sparse backend', () => {
  const CLUSTER = 65536;

  it('holds a disk of 2^44 sectors in the memory of what was written', () => {
    const backend = createSparseBackend({ capacitySectors: 2 ** 44 });
    const guest = region();
    guest.u8.fill(0xab, 0, 1024);
    const position = 2 ** 53 - CLUSTER - 512;
    expect(backend.write(guest, 0, 1024, position, TOKEN)).toBe(VIRTIO_BLK_S_OK);
    expect(backend.allocatedSize).toBe(2 * CLUSTER);
    expect(backend.read(guest, 2048, 1536, position - 512, TOKEN)).toBe(VIRTIO_BLK_S_OK);
    expect(guest.u8.subarray(2048, 2560).every((byte) => byte === 0)).toBe(true);
    expect(guest.u8.subarray(2560, 3584).every((byte) => byte === 0xab)).toBe(true);
  });

  it('gives whole clusters back and zeroes parts, over any range', () => {
    const backend = createSparseBackend({ capacitySectors: 2 ** 30 });
    const guest = region();
    guest.u8.fill(1);
    for (const cluster of [0, 1, 2, 9]) backend.write(guest, 0, 4096, cluster * CLUSTER, TOKEN);
    backend.writeZeroes(512, 2 * CLUSTER, true, TOKEN);
    expect(backend.allocatedSize).toBe(3 * CLUSTER);
    backend.read(guest, 0, 1024, 0, TOKEN);
    expect([guest.u8[511], guest.u8[512]]).toEqual([1, 0]);
    backend.read(guest, 0, 1024, 2 * CLUSTER, TOKEN);
    expect([guest.u8[511], guest.u8[512]]).toEqual([0, 1]);
    backend.discard(0, 2 ** 39, TOKEN);
    expect(backend.allocatedSize).toBe(0);
  });

  it('fails the write that needs more memory than it may take, and works on', () => {
    const backend = createSparseBackend({ capacitySectors: 1024, memorySizeMax: CLUSTER });
    expect(backend.write(region(), 0, 512, 0, TOKEN)).toBe(VIRTIO_BLK_S_OK);
    expect(backend.write(region(), 0, 512, CLUSTER, TOKEN)).toBe(VIRTIO_BLK_S_IOERR);
    expect(backend.write(region(), 0, 512, 512, TOKEN)).toBe(VIRTIO_BLK_S_OK);
  });
});

describe('null backend', () => {
  it('leaves guest memory alone, or zeroes it when asked', () => {
    const guest = region();
    guest.u8.fill(5);
    createNullBackend({ capacitySectors: 8 }).read(guest, 0, 512, 0, TOKEN);
    expect(guest.u8[0]).toBe(5);
    createNullBackend({ capacitySectors: 8, readZeroes: true }).read(guest, 0, 512, 0, TOKEN);
    expect([guest.u8[0], guest.u8[511], guest.u8[512]]).toEqual([0, 0, 5]);
  });
});
