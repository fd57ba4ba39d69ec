import { spawnSync } from 'node:child_process';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { LinuxGuestError } from '../error.ts';

// Linux: Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".
const SETUP_SECTS = 0x1f1;
const HEADER = 0x202;
const HEADER_MAGIC = 'HdrS';
const VERSION = 0x206;
const VERSION_WITH_PAYLOAD = 0x0208;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const HEADER_END = 0x250;
const SECTOR_SIZE = 512;
/** `setup_sects` of images that say 0. */
const SETUP_SECTS_DEFAULT = 4;

const ELF_MAGIC = 0x7f454c46;
/** Far above any kernel; only bounds what a broken image can ask for. */
const KERNEL_SIZE_MAX = 512 * 2 ** 20;

/** By the first four bytes, big endian, of the compressed kernel. */
const DECOMPRESSORS: ReadonlyMap<number, (payload: Uint8Array, size: number) => Uint8Array> = new Map([
  [0x02214c18, lz4],
  [0x28b52ffd, (payload: Uint8Array, size: number) => zstdDecompressSync(payload, { maxOutputLength: size })],
]);
const GZIP_MAGIC = 0x1f8b;

/**
 * The ELF file `vmlinux` from a kernel image (`bzImage`) for x86: what QEMU starts through its PVH entry, without the
 * decompressor. Kernels compressed by LZ4 (needs the program lz4), gzip and zstd.
 *
 * Throws LinuxGuestError `image`.
 */
export function vmlinuxOf(image: Uint8Array): Uint8Array {
  const payload = compressedKernel(image);
  // The build appends the size of the decompressed kernel; gzip has it in its own trailer, which is the same word.
  const size = view(payload).getUint32(payload.length - 4, true);
  if (size > KERNEL_SIZE_MAX) throw new LinuxGuestError('image', `a kernel of ${size} bytes`);
  const kernel = decompress(payload, size);
  if (kernel.length !== size || view(kernel).getUint32(0) !== ELF_MAGIC) {
    throw new LinuxGuestError('image', `the kernel image has no ELF file of ${size} bytes`);
  }
  return kernel;
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function compressedKernel(image: Uint8Array): Uint8Array {
  const header = view(image);
  const isKernel =
    image.length >= HEADER_END &&
    Buffer.from(image.subarray(HEADER, HEADER + HEADER_MAGIC.length)).toString('latin1') === HEADER_MAGIC &&
    header.getUint16(VERSION, true) >= VERSION_WITH_PAYLOAD;
  if (!isKernel) throw new LinuxGuestError('image', 'no kernel image for x86 with a payload');
  const setupSectors = image[SETUP_SECTS]!;
  const sectorCount = 1 + (setupSectors === 0 ? SETUP_SECTS_DEFAULT : setupSectors);
  const start = sectorCount * SECTOR_SIZE + header.getUint32(PAYLOAD_OFFSET, true);
  const length = header.getUint32(PAYLOAD_LENGTH, true);
  if (length < 8 || start + length > image.length) {
    throw new LinuxGuestError(
      'image',
      `the kernel image ends before its payload (${length} bytes at ${start})`,
    );
  }
  return image.subarray(start, start + length);
}

function decompress(payload: Uint8Array, size: number): Uint8Array {
  const magic = view(payload).getUint32(0);
  try {
    if (magic >>> 16 === GZIP_MAGIC) return gunzipSync(payload, { maxOutputLength: size });
    const decompressor = DECOMPRESSORS.get(magic);
    if (decompressor !== undefined) return decompressor(payload.subarray(0, -4), size);
  } catch (error) {
    throw new LinuxGuestError('image', 'the kernel cannot be decompressed', { cause: error });
  }
  throw new LinuxGuestError('image', `a kernel compressed by 0x${magic.toString(16)}, not LZ4, gzip or zstd`);
}

function lz4(payload: Uint8Array, size: number): Uint8Array {
  // A byte more than is wanted, so that a size that is too small is seen.
  const { stdout, stderr, error, status } = spawnSync('lz4', ['-d', '-c'], {
    input: payload,
    maxBuffer: size + 1,
  });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`lz4: ${stderr.toString().trim()}`);
  return stdout;
}
