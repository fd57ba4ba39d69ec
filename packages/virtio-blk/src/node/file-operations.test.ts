import { expect, it } from 'vitest';
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK } from '@virtlab/abi/virtio-blk';
import { type FileCalls, FileOperations } from './file-operations.ts';

/** A file of which a call moves at most `most` bytes, later. */
function shortCalls(file: Uint8Array, most: number): FileCalls {
  return {
    read: (_fd, bytes, offset, size, position, done) => {
      const count = Math.min(size, most);
      bytes.set(file.subarray(position, position + count), offset);
      queueMicrotask(() => done(null, count));
    },
    write: (_fd, bytes, offset, size, position, done) => {
      const count = Math.min(size, most);
      file.set(bytes.subarray(offset, offset + count), position);
      queueMicrotask(() => done(null, count));
    },
  };
}

function rig(file: Uint8Array, most: number) {
  const ended: [number, number][] = [];
  const errors: string[] = [];
  const operations = new FileOperations(
    3,
    (token, status) => ended.push([token, status]),
    (operation, error) => errors.push(`${operation}: ${error.message}`),
    shortCalls(file, most),
  );
  return { operations, ended, errors };
}

const counting = (size: number): Uint8Array => Uint8Array.from({ length: size }, (_, at) => at & 0xff);

it('goes on where a short read or write left off', async () => {
  const file = counting(4096);
  const { operations, ended } = rig(file, 100);
  const bytes = new Uint8Array(2048);
  operations.read(bytes, 24, 1000, 512, 1);
  await operations.drain();
  expect(bytes.slice(24, 1024)).toEqual(file.slice(512, 1512));
  operations.write(counting(2048), 48, 1000, 2048, 2);
  operations.writeRepeated(new Uint8Array(64).fill(9), 500, 3500, 3);
  await operations.drain();
  expect(file.slice(2048, 3048)).toEqual(counting(2048).slice(48, 1048));
  expect(file.subarray(3500, 4000).every((byte) => byte === 9)).toBe(true);
  expect([file[3499], file[4000]]).toEqual([3499 & 0xff, 4000 & 0xff]);
  expect(ended.toSorted(([a], [b]) => a - b)).toEqual([1, 2, 3].map((token) => [token, VIRTIO_BLK_S_OK]));
});

it('a call that moves nothing is an error, not a loop', async () => {
  const { operations, ended, errors } = rig(new Uint8Array(512), 0);
  operations.write(new Uint8Array(512), 0, 512, 0, 7);
  await operations.drain();
  expect(ended).toEqual([[7, VIRTIO_BLK_S_IOERR]]);
  expect(errors).toEqual(['write: the write moved no bytes at byte 0']);
});
