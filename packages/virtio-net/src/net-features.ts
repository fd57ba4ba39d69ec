import type { FeatureBits } from '@virtlab/abi/brands';
import { featureBit, featureBits, hasFeature } from '@virtlab/abi/virtio';
import * as net from '@virtlab/abi/virtio-net';

/** What a driver asks for over the control queue, whoever serves it. */
export const CONTROL_FEATURES: FeatureBits = featureBits(
  net.VIRTIO_NET_F_CTRL_VQ,
  net.VIRTIO_NET_F_CTRL_RX,
  net.VIRTIO_NET_F_CTRL_VLAN,
  net.VIRTIO_NET_F_CTRL_RX_EXTRA,
  net.VIRTIO_NET_F_CTRL_MAC_ADDR,
  net.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  net.VIRTIO_NET_F_GUEST_ANNOUNCE,
  net.VIRTIO_NET_F_NOTF_COAL,
  net.VIRTIO_NET_F_VQ_NOTF_COAL,
  net.VIRTIO_NET_F_HASH_REPORT,
  net.VIRTIO_NET_F_RSS,
);

/** What says that a field of the configuration means something. MQ and RSS do as well, and are more than that. */
export const CONFIGURATION_FEATURES: FeatureBits = featureBits(
  net.VIRTIO_NET_F_MAC,
  net.VIRTIO_NET_F_MTU,
  net.VIRTIO_NET_F_STATUS,
  net.VIRTIO_NET_F_SPEED_DUPLEX,
);

/** Bits that need one of others (§5.1.3.1). */
const DEPENDENCIES: readonly (readonly [
  bit: number,
  name: string,
  oneOf: readonly number[],
  names: string,
])[] = [
  [net.VIRTIO_NET_F_GUEST_TSO4, 'GUEST_TSO4', [net.VIRTIO_NET_F_GUEST_CSUM], 'GUEST_CSUM'],
  [net.VIRTIO_NET_F_GUEST_TSO6, 'GUEST_TSO6', [net.VIRTIO_NET_F_GUEST_CSUM], 'GUEST_CSUM'],
  [net.VIRTIO_NET_F_GUEST_USO4, 'GUEST_USO4', [net.VIRTIO_NET_F_GUEST_CSUM], 'GUEST_CSUM'],
  [net.VIRTIO_NET_F_GUEST_USO6, 'GUEST_USO6', [net.VIRTIO_NET_F_GUEST_CSUM], 'GUEST_CSUM'],
  [
    net.VIRTIO_NET_F_GUEST_ECN,
    'GUEST_ECN',
    [net.VIRTIO_NET_F_GUEST_TSO4, net.VIRTIO_NET_F_GUEST_TSO6],
    'GUEST_TSO4 or GUEST_TSO6',
  ],
  [net.VIRTIO_NET_F_HOST_TSO4, 'HOST_TSO4', [net.VIRTIO_NET_F_CSUM], 'CSUM'],
  [net.VIRTIO_NET_F_HOST_TSO6, 'HOST_TSO6', [net.VIRTIO_NET_F_CSUM], 'CSUM'],
  [net.VIRTIO_NET_F_HOST_USO, 'HOST_USO', [net.VIRTIO_NET_F_CSUM], 'CSUM'],
  [
    net.VIRTIO_NET_F_HOST_ECN,
    'HOST_ECN',
    [net.VIRTIO_NET_F_HOST_TSO4, net.VIRTIO_NET_F_HOST_TSO6],
    'HOST_TSO4 or HOST_TSO6',
  ],
  ...(
    [
      [net.VIRTIO_NET_F_CTRL_RX, 'CTRL_RX'],
      [net.VIRTIO_NET_F_CTRL_VLAN, 'CTRL_VLAN'],
      [net.VIRTIO_NET_F_GUEST_ANNOUNCE, 'GUEST_ANNOUNCE'],
      [net.VIRTIO_NET_F_MQ, 'MQ'],
      [net.VIRTIO_NET_F_CTRL_MAC_ADDR, 'CTRL_MAC_ADDR'],
      [net.VIRTIO_NET_F_NOTF_COAL, 'NOTF_COAL'],
      [net.VIRTIO_NET_F_VQ_NOTF_COAL, 'VQ_NOTF_COAL'],
      [net.VIRTIO_NET_F_RSS, 'RSS'],
      [net.VIRTIO_NET_F_HASH_REPORT, 'HASH_REPORT'],
      [net.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS, 'CTRL_GUEST_OFFLOADS'],
    ] as const
  ).map(([bit, name]) => [bit, name, [net.VIRTIO_NET_F_CTRL_VQ], 'CTRL_VQ'] as const),
];

/**
 * Why a set of features cannot be worked with, or undefined (§5.1.3.1). `controlElsewhere`: what needs the control queue is not
 * looked at, for a device whose control queue another party serves.
 */
export function refuseNetFeatures(features: FeatureBits, controlElsewhere = false): string | undefined {
  const given = controlElsewhere ? features | featureBit(net.VIRTIO_NET_F_CTRL_VQ) : features;
  const missing = DEPENDENCIES.find(
    ([bit, , oneOf]) => hasFeature(given, bit) && !oneOf.some((other) => hasFeature(given, other)),
  );
  if (missing !== undefined) return `VIRTIO_NET_F_${missing[1]} needs ${missing[3]}`;
  return undefined;
}

/**
 * The set without the bits that lack what they need. `controlElsewhere`: without the control queue and what is asked for over it,
 * which does not leave MQ out.
 */
export function pruneNetFeatures(features: FeatureBits, controlElsewhere = false): FeatureBits {
  const control = controlElsewhere ? featureBit(net.VIRTIO_NET_F_CTRL_VQ) : 0n;
  let rest = controlElsewhere ? features & ~CONTROL_FEATURES : features;
  for (;;) {
    const given = rest | control;
    const lacking = DEPENDENCIES.find(
      ([bit, , oneOf]) => hasFeature(given, bit) && !oneOf.some((other) => hasFeature(given, other)),
    );
    if (lacking === undefined) return rest;
    rest = rest & ~featureBit(lacking[0]);
  }
}
