import { describe, expect, it } from 'vitest';
import {
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
  VIRTIO_ID_BLOCK,
  VIRTIO_ID_NET,
  VIRTIO_ID_RNG,
  featureBits,
} from '@virtlab/abi/virtio';
import { describeFeatures, featureNumbers, negotiateFeatures, refuseFeatureSet } from './features.ts';

const VERSION_1 = featureBits(VIRTIO_F_VERSION_1);
const PLATFORM = featureBits(VIRTIO_F_ACCESS_PLATFORM);

describe('negotiateFeatures', () => {
  it('§6.1 accepts VERSION_1 always and ACCESS_PLATFORM where offered', () => {
    expect(negotiateFeatures(VERSION_1, 0n)).toEqual({ ok: true, features: VERSION_1 });
    expect(negotiateFeatures(VERSION_1 | PLATFORM, 0n)).toEqual({ ok: true, features: VERSION_1 | PLATFORM });
  });

  it('§2.2.1 accepts nothing that is not offered or not understood', () => {
    const offered = VERSION_1 | featureBits(1, 2, 70);
    expect(negotiateFeatures(offered, featureBits(2, 3, 70))).toEqual({
      ok: true,
      features: VERSION_1 | featureBits(2, 70),
    });
  });

  it('names the required bits that are missing', () => {
    expect(negotiateFeatures(featureBits(1), 0n)).toEqual({ ok: false, missing: VERSION_1 });
    expect(negotiateFeatures(VERSION_1, 0n, featureBits(5))).toEqual({ ok: false, missing: featureBits(5) });
  });
});

describe('refuseFeatureSet', () => {
  it('§2.2.2 refuses unoffered bits, and sets without VERSION_1 or an offered ACCESS_PLATFORM', () => {
    const offered = VERSION_1 | PLATFORM | featureBits(3);
    expect(refuseFeatureSet(offered, offered)).toBeUndefined();
    expect(refuseFeatureSet(offered, VERSION_1 | PLATFORM)).toBeUndefined();
    expect(refuseFeatureSet(offered, offered | featureBits(100))).toContain('0x10000000000000000000000000');
    expect(refuseFeatureSet(offered, PLATFORM)).toContain('VIRTIO_F_VERSION_1');
    expect(refuseFeatureSet(offered, VERSION_1)).toContain('VIRTIO_F_ACCESS_PLATFORM');
  });
});

describe('describeFeatures', () => {
  it('names bits by device type, in wire spelling, ascending', () => {
    const bits = VERSION_1 | featureBits(29, 28, 5);
    const general = ['VIRTIO_RING_F_INDIRECT_DESC', 'VIRTIO_RING_F_EVENT_IDX', 'VIRTIO_F_VERSION_1'];
    expect(describeFeatures(bits, VIRTIO_ID_NET)).toEqual(['VIRTIO_NET_F_MAC', ...general]);
    expect(describeFeatures(bits, VIRTIO_ID_BLOCK)).toEqual(['VIRTIO_BLK_F_RO', ...general]);
    expect(describeFeatures(bits, VIRTIO_ID_RNG)).toEqual(['bit 5', ...general]);
  });

  it('numbers bits beyond 64', () => {
    expect(featureNumbers(featureBits(0, 63, 64, 127))).toEqual([0, 63, 64, 127]);
  });
});
