import { ETHERNET_ADDRESS_SIZE, ETHERNET_GROUP_BIT, ETHERNET_LOCAL_BIT } from '@virtlab/abi/ethernet';
import type { FeatureBits } from '@virtlab/abi/brands';
import { hasFeature } from '@virtlab/abi/virtio';
import {
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_MTU_MIN,
  VIRTIO_NET_S_ANNOUNCE,
  VIRTIO_NET_S_LINK_UP,
} from '@virtlab/abi/virtio-net';
import {
  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX,
  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN,
} from '@virtlab/abi/virtio-net-ctrl';
import { NetError } from './errors.ts';
import { MTU_DEFAULT, decodeConfig, isStationAddress } from './protocol.ts';

/** What the device's configuration says, believed only where it makes sense. */
export interface CardProfile {
  readonly mac: Uint8Array;
  readonly mtu: number;
}

/**
 * Pairs of queues that a device with MQ or RSS has (§5.1.4.1). Whether the queues are there shows when they are set up: a
 * device may have fewer until MQ is accepted. Throws as `parseCardProfile`.
 */
export function parsePairCount(bytes: Uint8Array): number {
  const { max_virtqueue_pairs: count } = decodeConfig(bytes);
  const isPossible = count >= VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN && count <= VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX;
  if (!isPossible) throw nonsense('max_virtqueue_pairs', count);
  return count;
}

/** §5.1.4: the device wants its driver to announce itself. */
export function parseAnnounce(bytes: Uint8Array): boolean {
  return (decodeConfig(bytes).status & VIRTIO_NET_S_ANNOUNCE) !== 0;
}

/**
 * Checks configuration bytes of one generation, once. Without VIRTIO_NET_F_MAC the address is made up (§5.1.5).
 *
 * @throws NetError `EPROTO` naming the field and its value
 */
export function parseCardProfile(bytes: Uint8Array, features: FeatureBits): CardProfile {
  const { mac, mtu } = decodeConfig(bytes);
  const hasMac = hasFeature(features, VIRTIO_NET_F_MAC);
  const hasMtu = hasFeature(features, VIRTIO_NET_F_MTU);
  if (hasMac && !isStationAddress(mac)) throw nonsense('mac', Array.from(mac).join(':'));
  if (hasMtu && mtu < VIRTIO_NET_MTU_MIN) throw nonsense('mtu', mtu);
  return { mac: hasMac ? mac.slice() : randomAddress(), mtu: hasMtu ? mtu : MTU_DEFAULT };
}

/** §5.1.4.2: without VIRTIO_NET_F_STATUS the link is taken to be up. */
export function parseLink(bytes: Uint8Array, features: FeatureBits): boolean {
  if (!hasFeature(features, VIRTIO_NET_F_STATUS)) return true;
  return (decodeConfig(bytes).status & VIRTIO_NET_S_LINK_UP) !== 0;
}

function randomAddress(): Uint8Array {
  const mac = crypto.getRandomValues(new Uint8Array(ETHERNET_ADDRESS_SIZE));
  mac[0] = (mac[0]! & ~ETHERNET_GROUP_BIT) | ETHERNET_LOCAL_BIT;
  return mac;
}

function nonsense(field: string, value: number | string): NetError {
  return new NetError('EPROTO', `the device's configuration has ${field} ${value}`);
}
