import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { LinuxGuestError } from '../error.ts';

export interface KernelModule {
  /** Of the file, such as `virtio_net.ko`. */
  readonly fileName: string;
  readonly data: Uint8Array;
}

/**
 * The modules of those names and all that they depend on, in an order in which they can be loaded. `directory` is that of
 * the kernel's release below `lib/modules`. A name that is built into the kernel is left out; `-` and `_` are the same.
 *
 * Throws LinuxGuestError `missing`.
 */
export function kernelModules(directory: string, names: readonly string[]): readonly KernelModule[] {
  const paths = modulePaths(directory);
  const builtIn = builtInModules(directory);
  const found = new Map<string, KernelModule>();
  const visiting = new Set<string>();
  const visit = (name: string): void => {
    const key = moduleKey(name);
    if (visiting.has(key) || builtIn.has(key)) return;
    visiting.add(key);
    const path = paths.get(key);
    if (path === undefined) {
      throw new LinuxGuestError(
        'missing',
        `the kernel in ${directory} has no uncompressed module ${name}.ko`,
      );
    }
    const data = readFileSync(path);
    for (const dependency of dependencies(data)) visit(dependency);
    found.set(key, { fileName: basename(path), data }); // after what it depends on
  };
  for (const name of names) visit(name);
  return [...found.values()];
}

function moduleKey(name: string): string {
  return name.replaceAll('-', '_');
}

function modulePaths(directory: string): ReadonlyMap<string, string> {
  const files = readdirSync(join(directory, 'kernel'), { recursive: true, encoding: 'utf8' });
  return new Map(
    files
      .filter((file) => file.endsWith('.ko'))
      .map((file) => [moduleKey(basename(file, '.ko')), join(directory, 'kernel', file)]),
  );
}

function builtInModules(directory: string): ReadonlySet<string> {
  const list = join(directory, 'modules.builtin');
  if (!existsSync(list)) return new Set();
  const lines = readFileSync(list, 'utf8').split('\n');
  return new Set(lines.map((line) => moduleKey(basename(line, '.ko'))));
}

/** From the section `.modinfo`: strings `name=value`, each ended by a zero (Linux: include/linux/moduleparam.h). */
function dependencies(module: Buffer): readonly string[] {
  const start = module.indexOf('\0depends=', 0, 'latin1');
  if (start < 0) return [];
  const value = start + '\0depends='.length;
  return module
    .toString('latin1', value, module.indexOf(0, value))
    .split(',')
    .filter((name) => name !== '');
}
