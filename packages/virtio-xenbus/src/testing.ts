export { XenRig, type XenRigOptions } from './testing/xen-rig.ts';
export { type RigDomain } from './testing/rig-domain.ts';
export { RigDevice } from './testing/rig-device.ts';
export {
  readDocumentedPaths,
  type DocumentedPath,
  type DocumentedPaths,
  type FoundNode,
} from './testing/documented-paths.ts';
export { readTree } from './testing/read-tree.ts';
