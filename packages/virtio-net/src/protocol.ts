/** What driver and device of VIRTIO §5.1 have in common: queues, the packet header, frame sizes, configuration space. */
import {
  ETHERNET_ADDRESS_SIZE,
  ETHERNET_GROUP_BIT,
  ETHERNET_HEADER_SIZE,
  ETHERNET_VLAN_TAG_SIZE,
} from '@virtlab/abi/ethernet';
import type { FeatureBits } from '@virtlab/abi/brands';
import type { RecordOf } from '@virtlab/abi/layout';
import { hasFeature } from '@virtlab/abi/virtio';
import {
  VIRTIO_NET_CONFIG,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_SPEED_DUPLEX,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_HDR_V1,
  VIRTIO_NET_HDR_V1_HASH,
  virtioNetReceiveQueue,
  virtioNetTransmitQueue,
} from '@virtlab/abi/virtio-net';

export type NetConfig = RecordOf<typeof VIRTIO_NET_CONFIG>;

/** The queues of the first pair, which is all there is without multiqueue (§5.1.2). */
export const RECEIVE_QUEUE: number = virtioNetReceiveQueue(0);
export const TRANSMIT_QUEUE: number = virtioNetTransmitQueue(0);
export const QUEUE_COUNT = 2;

/** Bytes before each frame (§5.1.9); the same with and without MRG_RXBUF. */
export const NET_HEADER_SIZE: number = VIRTIO_NET_HDR_V1.size;

/** Bytes before each frame with these features: HASH_REPORT adds to it, in both directions. */
export function netHeaderSize(features: FeatureBits): number {
  return hasFeature(features, VIRTIO_NET_F_HASH_REPORT) ? VIRTIO_NET_HDR_V1_HASH.size : NET_HEADER_SIZE;
}

/** Whether there is more than one pair of queues to speak of (§5.1.2). */
export function hasPairs(features: FeatureBits): boolean {
  return hasFeature(features, VIRTIO_NET_F_MQ) || hasFeature(features, VIRTIO_NET_F_RSS);
}

/** Longest key, and longest indirection table, that the device takes for RSS (§5.1.4.1: at least 40 and 128). */
export const RSS_KEY_SIZE_MAX = 40;
export const RSS_TABLE_COUNT_MAX = 128;

/** What Ethernet itself carries where VIRTIO_NET_F_MTU says nothing. */
export const MTU_DEFAULT = 1500;

/** Configuration space up to `supported_hash_types`: what the features offered here make valid (§5.1.4). */
export const NET_CONFIG_SIZE: number = VIRTIO_NET_CONFIG.offset.supported_tunnel_types;

/** Bytes of the largest frame that may be left to be segmented: 65,601 with its header (§5.1.9.3.1). */
export const UNFINISHED_FRAME_SIZE_MAX = 65_589;

/** Smallest receive buffer without MRG_RXBUF and without offloads (§5.1.9.3.1). */
export const RECEIVE_BUFFER_SIZE_MIN: number = NET_HEADER_SIZE + ETHERNET_HEADER_SIZE + MTU_DEFAULT;

/** Bytes of the largest frame on a link, with room for a VLAN tag. */
export function frameSizeLimit(mtu: number): number {
  return mtu + ETHERNET_HEADER_SIZE + ETHERNET_VLAN_TAG_SIZE;
}

/** An individual address that is not all zero. */
export function isStationAddress(mac: Uint8Array): boolean {
  return (
    mac.length === ETHERNET_ADDRESS_SIZE &&
    (mac[0]! & ETHERNET_GROUP_BIT) === 0 &&
    mac.some((byte) => byte !== 0)
  );
}

const NO_CONFIG: NetConfig = VIRTIO_NET_CONFIG.read(new DataView(new ArrayBuffer(VIRTIO_NET_CONFIG.size)), 0);

/** Configuration space as bytes; fields that are not given are zero. */
export function encodeConfig(fields: Partial<NetConfig>): Uint8Array {
  const bytes = new Uint8Array(VIRTIO_NET_CONFIG.size);
  VIRTIO_NET_CONFIG.write(new DataView(bytes.buffer), 0, { ...NO_CONFIG, ...fields });
  return bytes.slice(0, NET_CONFIG_SIZE);
}

/** The fields in a prefix of configuration space; those beyond it are zero. */
export function decodeConfig(prefix: Uint8Array): NetConfig {
  const bytes = new Uint8Array(VIRTIO_NET_CONFIG.size);
  bytes.set(prefix.subarray(0, bytes.length));
  return VIRTIO_NET_CONFIG.read(new DataView(bytes.buffer), 0);
}

/** Bytes of configuration space that hold what these features make valid; a device may have no more (§2.5). */
export function configSizeFor(features: FeatureBits): number {
  const { offset, width } = VIRTIO_NET_CONFIG;
  if (hasFeature(features, VIRTIO_NET_F_RSS) || hasFeature(features, VIRTIO_NET_F_HASH_REPORT)) {
    return offset.supported_hash_types + width.supported_hash_types;
  }
  if (hasFeature(features, VIRTIO_NET_F_SPEED_DUPLEX)) return offset.duplex + width.duplex;
  if (hasFeature(features, VIRTIO_NET_F_MTU)) return offset.mtu + width.mtu;
  if (hasFeature(features, VIRTIO_NET_F_MQ)) return offset.max_virtqueue_pairs + width.max_virtqueue_pairs;
  if (hasFeature(features, VIRTIO_NET_F_STATUS)) return offset.status + width.status;
  return hasFeature(features, VIRTIO_NET_F_MAC) ? offset.mac + width.mac : 0;
}
