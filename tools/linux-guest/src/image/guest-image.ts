import { createHash, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { guestParts } from '../availability.ts';
import { LinuxGuestError } from '../error.ts';
import { vmlinuxOf } from './boot-image.ts';
import { initramfs } from './initramfs.ts';

const CACHE = join(import.meta.dirname, '..', '..', '.cache');

export interface GuestImageOptions {
  /** Modules of the kernel besides virtio_pci, virtio_blk, virtio_net and virtio_rng; their dependencies are found. */
  readonly modules?: readonly string[];
  /** Programs of this machine besides mkfs.ext4, by name or path: `ethtool`, `iperf3`. They come with their libraries. */
  readonly programs?: readonly string[];
  /** Where finished files are kept, the package's `.cache` by default. */
  readonly cacheDirectory?: string;
}

export interface GuestImage {
  /** Of the kernel, such as `6.1.0-56-cloud-amd64`. */
  readonly kernelRelease: string;
  /** An ELF file with a PVH entry. */
  readonly kernelPath: string;
  /** An archive in the format newc, not compressed. */
  readonly initramfsPath: string;
}

/**
 * Kernel and root file system of a guest. What was made before of the same sources is used again; any number of processes
 * may make it at once, for a finished file is renamed into place.
 *
 * Throws LinuxGuestError `missing` and `image`.
 */
export function guestImage(options: GuestImageOptions = {}): GuestImage {
  const parts = guestParts();
  if (typeof parts === 'string') throw new LinuxGuestError('missing', parts);
  const cache = options.cacheDirectory ?? CACHE;
  const { kernel, busybox } = parts;
  const bootImage = readFileSync(kernel.imagePath);
  const archive = initramfs({
    busybox,
    modulesDirectory: kernel.modulesDirectory,
    modules: options.modules ?? [],
    programs: options.programs ?? [],
  });
  return {
    kernelRelease: kernel.release,
    kernelPath: cached(cache, `vmlinux-${hash(bootImage)}`, () => vmlinuxOf(bootImage)),
    initramfsPath: cached(cache, `initramfs-${hash(archive)}.cpio`, () => archive),
  };
}

function hash(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 16);
}

function cached(directory: string, name: string, make: () => Uint8Array): string {
  const path = join(directory, name);
  if (existsSync(path)) return path;
  mkdirSync(directory, { recursive: true });
  const unfinished = join(directory, `${randomUUID()}.unfinished`);
  try {
    writeFileSync(unfinished, make());
    renameSync(unfinished, path);
  } finally {
    rmSync(unfinished, { force: true });
  }
  return path;
}
