import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED, hasFeature } from '@virtlab/abi/virtio';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import type { RingFeatures } from './contract.ts';

/** What a negotiated feature set means for the ring (VIRTIO §6). */
export function ringFeatures(negotiated: FeatureBits): RingFeatures {
  return {
    indirect: hasFeature(negotiated, VIRTIO_RING_F_INDIRECT_DESC),
    eventIdx: hasFeature(negotiated, VIRTIO_RING_F_EVENT_IDX),
    packed: hasFeature(negotiated, VIRTIO_F_RING_PACKED),
    inOrder: hasFeature(negotiated, VIRTIO_F_IN_ORDER),
  };
}
