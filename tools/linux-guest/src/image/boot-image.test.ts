import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { vmlinuxOf } from './boot-image.ts';

const KERNEL = Buffer.concat([Buffer.from([0x7f, 0x45, 0x4c, 0x46]), Buffer.alloc(3000, 'kernel')]);

function sizeWord(size: number): Buffer {
  const word = Buffer.alloc(4);
  word.writeUInt32LE(size);
  return word;
}

/** An image as boot.rst describes it: three sectors of set-up code, then 16 bytes of another kind before the payload. */
function image(payload: Uint8Array): Buffer {
  const setup = Buffer.alloc(4 * 512 + 16);
  setup[0x1f1] = 3;
  setup.write('HdrS', 0x202);
  setup.writeUInt16LE(0x20f, 0x206);
  setup.writeUInt32LE(16, 0x248);
  setup.writeUInt32LE(payload.length, 0x24c);
  return Buffer.concat([setup, payload, Buffer.from('what follows')]);
}

describe('vmlinuxOf', () => {
  it('takes a kernel compressed by gzip or zstd', () => {
    expect(vmlinuxOf(image(gzipSync(KERNEL)))).toEqual(KERNEL);
    expect(vmlinuxOf(image(Buffer.concat([zstdCompressSync(KERNEL), sizeWord(KERNEL.length)])))).toEqual(
      KERNEL,
    );
  });

  it.each([
    ['another file', Buffer.alloc(8192), 'no kernel image'],
    [
      'an image that is cut short',
      image(gzipSync(KERNEL)).subarray(0, 4 * 512 + 40),
      'ends before its payload',
    ],
    ['an unknown compression', image(Buffer.alloc(64, 1)), 'compressed by 0x1010101'],
    ['a damaged payload', image(gzipSync(KERNEL).fill(0xff, 20, 40)), 'cannot be decompressed'],
    [
      'a size that is not that of the kernel',
      image(Buffer.concat([zstdCompressSync(KERNEL), sizeWord(9000)])),
      '9000',
    ],
    [
      'a kernel that is too large',
      image(Buffer.concat([zstdCompressSync(KERNEL), sizeWord(2 ** 31)])),
      '2147483648',
    ],
    ['no ELF file', image(gzipSync(Buffer.alloc(5000))), 'no ELF file'],
  ])('refuses %s', (_name, bytes, message) => {
    expect(() => vmlinuxOf(bytes)).toThrow(expect.objectContaining({ code: 'image' }));
    expect(() => vmlinuxOf(bytes)).toThrow(message);
  });
});
