import { describe, expect, it } from 'vitest';
import { checkWorkspace } from './rules.ts';
import type { WorkspacePackage } from './workspace.ts';

function pkg(name: string, layer: string, more: Partial<WorkspacePackage> = {}): WorkspacePackage {
  return {
    name: `@virtlab/${name}`,
    root: `packages/${name}`,
    layer,
    dependencies: [],
    references: [],
    sources: [],
    ...more,
  };
}

function source(path: string, ...imports: string[]): WorkspacePackage['sources'] {
  return [{ path, isTest: path.endsWith('.test.ts'), imports }];
}

describe('layer check', () => {
  it('accepts a dependency that points upward and is imported', () => {
    const device = pkg('virtio-blk', 'device', {
      dependencies: ['@virtlab/vring'],
      references: ['packages/vring'],
      sources: source('packages/virtio-blk/src/a.ts', '@virtlab/vring/testing'),
    });
    expect(checkWorkspace([pkg('vring', 'ring'), device])).toEqual([]);
  });

  it.each([
    ['a transport that depends on a device', 'transport', 'device'],
    ['a device that depends on a transport', 'device', 'transport'],
    ['a device that depends on the hypervisor', 'device', 'hypervisor'],
    ['a ring that depends on virtio', 'ring', 'virtio'],
  ])('refuses %s', (_what, layer, used) => {
    const low = pkg('used', used);
    const high = pkg('user', layer, {
      dependencies: ['@virtlab/used'],
      references: ['packages/used'],
      sources: source('packages/user/src/a.ts', '@virtlab/used'),
    });
    expect(checkWorkspace([low, high])).toEqual([
      expect.stringContaining(`layer ${layer} must not depend on @virtlab/used`),
    ]);
  });

  it('refuses an import that package.json does not list', () => {
    const user = pkg('user', 'ring', { sources: source('packages/user/src/a.ts', '@virtlab/abi/virtio') });
    expect(checkWorkspace([user])).toEqual([expect.stringContaining('not among the dependencies')]);
  });

  it.each(['vitest', '@virtlab/readme-example', '@virtlab/explorer'])('accepts %s in tests only', (name) => {
    const at = (path: string) => checkWorkspace([pkg('a', 'ring', { sources: source(path, name) })]);
    expect(at('packages/a/src/x.test.ts')).toEqual([]);
    expect(at('packages/a/src/x.ts')).toEqual([expect.stringContaining('not among the dependencies')]);
  });

  it('refuses a dependency without a project reference and the reverse', () => {
    const abi = pkg('abi', 'abi');
    const sources = source('packages/a/src/a.ts', '@virtlab/abi/virtio');
    expect(checkWorkspace([abi, pkg('a', 'base', { dependencies: ['@virtlab/abi'], sources })])).toHaveLength(
      1,
    );
    expect(checkWorkspace([abi, pkg('a', 'base', { references: ['packages/abi'] })])).toHaveLength(1);
  });

  it('refuses node:* in a browser-safe layer, outside node/ and tests', () => {
    const at = (path: string) => checkWorkspace([pkg('a', 'ring', { sources: source(path, 'node:fs') })]);
    expect(at('packages/a/src/x.ts')).toHaveLength(1);
    expect(at('packages/a/src/node/x.ts')).toEqual([]);
    expect(at('packages/a/src/x.test.ts')).toEqual([]);
  });

  it('refuses a builtin without its prefix, an import that leaves the package, the FFI outside linux', () => {
    const at = (specifier: string) =>
      checkWorkspace([pkg('a', 'system', { sources: source('packages/a/src/x.ts', specifier) })]);
    expect(at('fs')).toEqual([expect.stringContaining('node: prefix')]);
    expect(at('../../b/src/y.ts')).toEqual([expect.stringContaining('leaves the package')]);
    expect(at('koffi')).toEqual([expect.stringContaining('only @virtlab/linux may')]);
  });

  it('refuses a dependency that nothing imports', () => {
    const user = pkg('user', 'ring', { dependencies: ['@virtlab/abi'], references: ['packages/abi'] });
    expect(checkWorkspace([pkg('abi', 'abi'), user])).toEqual([
      expect.stringContaining('nothing imports @virtlab/abi'),
    ]);
  });

  it('refuses a package without a known layer', () => {
    expect(checkWorkspace([pkg('a', 'nowhere')])).toEqual([expect.stringContaining('names no layer')]);
  });
});
