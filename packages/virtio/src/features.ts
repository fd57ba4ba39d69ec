/** Feature bits (VIRTIO §2.2, §6): what may be offered, what gets accepted, and names for people. */
import * as virtio from '@virtlab/abi/virtio';
import * as virtioBlk from '@virtlab/abi/virtio-blk';
import * as virtioNet from '@virtlab/abi/virtio-net';
import * as virtioRing from '@virtlab/abi/virtio-ring';
import type { FeatureBits } from '@virtlab/abi/brands';
import { featureBits } from '@virtlab/abi/virtio';

/** What a driver accepts of the ring unless told otherwise. */
export const RING_FEATURES: FeatureBits = featureBits(
  virtioRing.VIRTIO_RING_F_INDIRECT_DESC,
  virtioRing.VIRTIO_RING_F_EVENT_IDX,
);

/** All bits of the ring that this implementation does; a device may offer any of them, the ring does the work. */
export const ALL_RING_FEATURES: FeatureBits =
  RING_FEATURES |
  featureBits(virtio.VIRTIO_F_RING_PACKED, virtio.VIRTIO_F_IN_ORDER, virtio.VIRTIO_F_ORDER_PLATFORM);

/** What every driver of ours accepts where it is offered, beside VERSION_1 and ACCESS_PLATFORM: it costs nothing until used. */
export const ALWAYS_ACCEPTED: FeatureBits = featureBits(
  virtio.VIRTIO_F_ORDER_PLATFORM,
  virtio.VIRTIO_F_RING_RESET,
);

/** §2.2: bits 0 to 23, 42 and from 50 belong to the device type. */
export function isDeviceTypeFeature(bit: number): boolean {
  return bit <= 23 || bit === 42 || bit >= 50;
}

/** Bit numbers in a set, ascending. */
export function featureNumbers(bits: FeatureBits): number[] {
  const numbers: number[] = [];
  for (let bit = 0, rest = bits; rest !== 0n; bit += 1, rest >>= 1n)
    if ((rest & 1n) === 1n) numbers.push(bit);
  return numbers;
}

export type FeatureOutcome =
  | { readonly ok: true; readonly features: FeatureBits }
  | { readonly ok: false; readonly missing: FeatureBits };

/**
 * The subset a driver accepts (§2.2.1): what it wants among what is offered, and always VERSION_1 (§6.1) and, where
 * offered, ACCESS_PLATFORM (§6.1: a driver that does not accept it can be refused). `missing` are required bits that
 * are not offered.
 */
export function negotiateFeatures(
  offered: FeatureBits,
  wanted: FeatureBits,
  required: FeatureBits = 0n,
  mandatory: FeatureBits = virtio.featureBit(virtio.VIRTIO_F_VERSION_1),
): FeatureOutcome {
  const must = required | mandatory;
  if ((offered & must) !== must) return { ok: false, missing: must & ~offered };
  const platform = virtio.featureBit(virtio.VIRTIO_F_ACCESS_PLATFORM);
  return { ok: true, features: offered & (wanted | must | platform) };
}

/** Why a device refuses a driver's set at FEATURES_OK, or undefined (§2.2.2, §6.2). */
export function refuseFeatureSet(offered: FeatureBits, accepted: FeatureBits): string | undefined {
  const unoffered = accepted & ~offered;
  if (unoffered !== 0n) return `Feature bits that were not offered: 0x${unoffered.toString(16)}`;
  if (!virtio.hasFeature(accepted, virtio.VIRTIO_F_VERSION_1)) return 'VIRTIO_F_VERSION_1 was not accepted';
  if (
    virtio.hasFeature(offered, virtio.VIRTIO_F_ACCESS_PLATFORM) &&
    !virtio.hasFeature(accepted, virtio.VIRTIO_F_ACCESS_PLATFORM)
  ) {
    return 'VIRTIO_F_ACCESS_PLATFORM was offered and not accepted';
  }
  return undefined;
}

type Names = ReadonlyMap<number, string>;

function namesIn(constants: Readonly<Record<string, unknown>>, prefix: string): Names {
  const names = new Map<number, string>();
  for (const [name, value] of Object.entries(constants)) {
    if (name.startsWith(prefix) && typeof value === 'number' && !names.has(value)) names.set(value, name);
  }
  return names;
}

const GENERAL: Names = new Map([...namesIn(virtio, 'VIRTIO_F_'), ...namesIn(virtioRing, 'VIRTIO_RING_F_')]);
const BY_TYPE: ReadonlyMap<number, Names> = new Map([
  [virtio.VIRTIO_ID_NET, namesIn(virtioNet, 'VIRTIO_NET_F_')],
  [virtio.VIRTIO_ID_BLOCK, namesIn(virtioBlk, 'VIRTIO_BLK_F_')],
]);

/** Names in wire spelling, ascending by bit; `bit 7` where the documents name none for this device type. */
export function describeFeatures(bits: FeatureBits, deviceType: number): string[] {
  const ofType = BY_TYPE.get(deviceType);
  return featureNumbers(bits).map((bit) => {
    const name = isDeviceTypeFeature(bit) ? ofType?.get(bit) : GENERAL.get(bit);
    return name ?? `bit ${bit}`;
  });
}
