import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { TemporaryDirectory } from '../testing/temporary-directory.ts';
import { kernelModules } from './kernel-modules.ts';

/** Modules by path, each with what it depends on, as `modinfo` would print it. */
function writeModules(directory: string, modules: Readonly<Record<string, string>>): void {
  for (const [path, dependencies] of Object.entries(modules)) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), `\x7fELF\0license=GPL\0depends=${dependencies}\0name=x\0`);
  }
}

function fileNames(directory: string, names: readonly string[]): readonly string[] {
  return kernelModules(directory, names).map(({ fileName }) => fileName);
}

describe('kernelModules', () => {
  it('brings what a module depends on, each once and before it', () => {
    using directory = new TemporaryDirectory();
    writeModules(directory.path, {
      'kernel/net/card.ko': 'bus,ring',
      'kernel/bus/bus.ko': 'ring',
      'kernel/ring.ko': '',
      'kernel/unused.ko': '',
    });
    expect(fileNames(directory.path, ['card', 'bus'])).toEqual(['ring.ko', 'bus.ko', 'card.ko']);
  });

  it('takes - and _ for the same, and leaves out what is built in', () => {
    using directory = new TemporaryDirectory();
    writeModules(directory.path, { 'kernel/virtio-rng.ko': 'rng-core,virtio' });
    writeFileSync(directory.file('modules.builtin'), 'kernel/rng_core.ko\nkernel/drivers/virtio.ko\n');
    expect(fileNames(directory.path, ['virtio_rng'])).toEqual(['virtio-rng.ko']);
  });

  it('names a module that the kernel does not have', () => {
    using directory = new TemporaryDirectory();
    writeModules(directory.path, { 'kernel/card.ko': 'bus' });
    expect(() => fileNames(directory.path, ['card'])).toThrow('no uncompressed module bus.ko');
  });
});
