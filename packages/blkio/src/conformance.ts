/** The suite by which a link and the disk behind it show that the block I/O API works on them. Needs vitest. */
import { describe } from 'vitest';
import { VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED, featureBit } from '@virtlab/abi/virtio';
import { VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import { RING_FEATURES } from '@virtlab/virtio';
import { type BlkioSetup, describeFaces } from './conformance/faces.ts';
import { describeRandom } from './conformance/random.ts';

export type { BlkioSetup, DiskUnderTest } from './conformance/faces.ts';

const PACKED = featureBit(VIRTIO_F_RING_PACKED);

/** Ring features to run with; what the device does not offer is not used, and the run is one with fewer. */
const VARIANTS: readonly (readonly [string, bigint])[] = [
  ['plain', 0n],
  ['indirect', featureBit(VIRTIO_RING_F_INDIRECT_DESC)],
  ['indirect, event index', RING_FEATURES],
  ['packed', PACKED],
  ['packed, indirect, event index', PACKED | RING_FEATURES],
  ['in order, indirect, event index', featureBit(VIRTIO_F_IN_ORDER) | RING_FEATURES],
];

/** Every test opens a disk of its own and ends by asking what is still held. */
export function describeBlkio(setup: BlkioSetup): void {
  for (const [rings, ringFeatures] of VARIANTS) {
    describe(`block I/O: ${setup.name}, ${rings}`, () => {
      describeFaces(setup, ringFeatures);
      describeRandom(setup, ringFeatures);
    });
  }
}
