import { isStaticProgram, programPath } from './image/host-programs.ts';
import { KERNEL_PACKAGE, KERNEL_VARIABLE, type KernelFiles, findKernel } from './image/kernel-package.ts';

export const QEMU = 'qemu-system-x86_64';
/** Runs QEMU so that it ends with the thread that started it. */
export const SETPRIV = 'setpriv';

/** What a guest needs besides the kernel, and the Debian package that has it. */
const PROGRAMS: readonly (readonly [program: string, debianPackage: string])[] = [
  [QEMU, 'qemu-system-x86'],
  ['lz4', 'lz4'],
  ['mkfs.ext4', 'e2fsprogs'],
  [SETPRIV, 'util-linux'],
];

export type GuestAvailability =
  | { readonly status: 'available'; readonly kernelRelease: string }
  | { readonly status: 'missing'; readonly reason: string };

export interface GuestParts {
  readonly kernel: KernelFiles;
  readonly busybox: string;
}

/** Whether guests can be started here; if not, `reason` names all Debian packages that are missing. */
export function guestAvailability(): GuestAvailability {
  const found = guestParts();
  if (typeof found === 'string') return { status: 'missing', reason: found };
  return { status: 'available', kernelRelease: found.kernel.release };
}

/** The parts of which an image is made, or what is missing. */
export function guestParts(): GuestParts | string {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    return `guests run programs of Linux on x64, this is ${process.platform} on ${process.arch}`;
  }
  const missing = PROGRAMS.filter(([program]) => programPath(program) === undefined).map(
    ([program, debianPackage]) => `${debianPackage} (${program})`,
  );
  const busybox = programPath('busybox');
  const isStatic = busybox !== undefined && isStaticProgram(busybox);
  if (!isStatic) missing.push('busybox-static');
  const kernel = findKernel();
  if (kernel === undefined)
    missing.push(`${KERNEL_PACKAGE} (or unpacked in the directory that ${KERNEL_VARIABLE} names)`);
  if (isStatic && kernel !== undefined && missing.length === 0) return { kernel, busybox };
  return `needs the Debian package${missing.length === 1 ? '' : 's'} ${missing.join(', ')}`;
}
