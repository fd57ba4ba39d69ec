import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { OUTPUT_SIZE_MAX } from '../control-channel.ts';
import { parentDirectories, programMembers } from './host-programs.ts';
import { kernelModules } from './kernel-modules.ts';
import { type ArchiveMember, newcArchive } from './newc-archive.ts';

/** Beside the compiled files, too, it is the source that counts. */
const INIT = join(import.meta.dirname, '..', '..', 'src', 'guest', 'init.sh');

/** Drivers of every guest; what they depend on comes with them. */
export const GUEST_MODULES: readonly string[] = ['virtio_pci', 'virtio_blk', 'virtio_net', 'virtio_rng'];
/** Programs of every guest beyond busybox, whose mke2fs knows nothing newer than ext2. */
export const GUEST_PROGRAMS: readonly string[] = ['mkfs.ext4'];

/**
 * Zeros behind the archive. QEMU puts its end 160 KiB below that of the RAM (its hw/i386/x86.c, acpi_data_size), and there SeaBIOS keeps
 * up to 256 KiB (its BUILD_MAX_HIGHTABLE): rings of its own too, live until Linux resets their devices. With three disks and more
 * archive and rings overlap; a device that looks at such a ring shall find nothing, and one that writes to it harm nothing.
 */
const PADDING_SIZE = 256 << 10;

export interface InitramfsOptions {
  /** A busybox without shared libraries. */
  readonly busybox: string;
  /** `lib/modules/<release>` of the kernel. */
  readonly modulesDirectory: string;
  /** Besides GUEST_MODULES. */
  readonly modules: readonly string[];
  /** Besides GUEST_PROGRAMS: names or paths. */
  readonly programs: readonly string[];
}

/** The guest's root file system, an archive for the kernel. Throws LinuxGuestError `missing` and `image`. */
export function initramfs(options: InitramfsOptions): Uint8Array {
  const modules = kernelModules(options.modulesDirectory, [...GUEST_MODULES, ...options.modules]);
  const init = readFileSync(INIT, 'utf8').replace('@OUTPUT_SIZE_MAX@', String(OUTPUT_SIZE_MAX));
  const order = modules.map(({ fileName }) => `${fileName}\n`).join('');
  const files: readonly ArchiveMember[] = [
    // The kernel opens it for the first process, before anything is mounted (Linux: Documentation/admin-guide/devices.txt).
    { kind: 'character-device', path: 'dev/console', major: 5, minor: 1 },
    { kind: 'file', path: 'init', data: Buffer.from(init), mode: 0o755 },
    { kind: 'file', path: 'bin/busybox', data: readFileSync(options.busybox), mode: 0o755 },
    { kind: 'file', path: 'etc/passwd', data: Buffer.from('root::0:0:root:/root:/bin/sh\n'), mode: 0o644 },
    { kind: 'file', path: 'modules/order', data: Buffer.from(order), mode: 0o644 },
    ...modules.map(({ fileName, data }): ArchiveMember => ({
      kind: 'file',
      path: `modules/${fileName}`,
      data,
      mode: 0o644,
    })),
    ...programMembers([...GUEST_PROGRAMS, ...options.programs]),
  ];
  const archive = newcArchive([...parentDirectories(files), ...files]);
  return Buffer.concat([archive, new Uint8Array(PADDING_SIZE)]);
}
