import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Directory of an unpacked kernel package; without it the installed kernel is taken. */
export const KERNEL_VARIABLE = 'VIRTLAB_GUEST_KERNEL';
/** Depends on the package that has the kernel itself. */
export const KERNEL_PACKAGE = 'linux-image-cloud-amd64';

export interface KernelFiles {
  /** Such as `6.1.0-56-cloud-amd64`. */
  readonly release: string;
  readonly imagePath: string;
  readonly modulesDirectory: string;
}

/**
 * The newest kernel below the directory that the environment variable VIRTLAB_GUEST_KERNEL names, or the newest installed
 * one of linux-image-cloud-amd64; undefined where there is none with its modules.
 */
export function findKernel(): KernelFiles | undefined {
  const directory = process.env[KERNEL_VARIABLE];
  return directory === undefined || directory === ''
    ? newestKernel('/', /-cloud-amd64$/)
    : newestKernel(directory, /./);
}

function newestKernel(root: string, wanted: RegExp): KernelFiles | undefined {
  const boot = join(root, 'boot');
  const releases = (existsSync(boot) ? readdirSync(boot) : [])
    .filter((name) => name.startsWith('vmlinuz-'))
    .map((name) => name.slice('vmlinuz-'.length))
    .filter((release) => wanted.test(release))
    .toSorted((a, b) => b.localeCompare(a, 'en', { numeric: true }));
  for (const release of releases) {
    for (const lib of ['lib', 'usr/lib']) {
      const modulesDirectory = join(root, lib, 'modules', release);
      if (existsSync(join(modulesDirectory, 'kernel'))) {
        return { release, imagePath: join(boot, `vmlinuz-${release}`), modulesDirectory };
      }
    }
  }
  return undefined;
}
