/**
 * The layers of the project, each with the layers it may depend on (besides itself where `self` is said).
 * Transports and devices are siblings: they meet only in `system` and `app`.
 */
export interface Layer {
  readonly name: string;
  readonly mayUse: readonly string[];
  /** Production code imports no `node:*` outside a `node/` folder, so that it also runs in a browser. */
  readonly browserSafe: boolean;
}

export const LAYERS: readonly Layer[] = [
  { name: 'abi', mayUse: [], browserSafe: true },
  { name: 'base', mayUse: ['abi', 'base'], browserSafe: true },
  { name: 'xen', mayUse: ['abi', 'base', 'xen'], browserSafe: true },
  { name: 'hypervisor', mayUse: ['abi', 'base', 'xen'], browserSafe: true },
  { name: 'ring', mayUse: ['abi', 'base'], browserSafe: true },
  { name: 'virtio', mayUse: ['abi', 'base', 'ring'], browserSafe: true },
  { name: 'transport', mayUse: ['abi', 'base', 'xen', 'virtio'], browserSafe: true },
  { name: 'device', mayUse: ['abi', 'base', 'ring', 'virtio'], browserSafe: true },
  {
    name: 'system',
    mayUse: ['abi', 'base', 'xen', 'hypervisor', 'ring', 'virtio', 'transport', 'device', 'system'],
    browserSafe: false,
  },
  {
    name: 'app',
    mayUse: [
      'abi',
      'base',
      'xen',
      'hypervisor',
      'ring',
      'virtio',
      'transport',
      'device',
      'system',
      'app',
      'tool',
    ],
    browserSafe: false,
  },
  { name: 'tool', mayUse: ['abi'], browserSafe: false },
];

/** Packages exempt from the browser rule of their layer: the door to the kernel. */
export const NODE_PACKAGES: ReadonlySet<string> = new Set(['@virtlab/linux']);
/** The one package that may import the FFI. */
export const FFI_IMPORTERS: Readonly<Record<string, string>> = { koffi: '@virtlab/linux' };
/** What tests may import without it being a dependency of the package. */
export const TEST_IMPORTS: ReadonlySet<string> = new Set([
  'vitest',
  'fast-check',
  '@fast-check/vitest',
  '@virtlab/explorer',
  '@virtlab/readme-example',
]);
