import type { FeatureBits } from '@virtlab/abi/brands';
import { featureBits } from '@virtlab/abi/virtio';
import {
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_MTU_MAX,
  VIRTIO_NET_MTU_MIN,
} from '@virtlab/abi/virtio-net';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import type { NetPort } from './network.ts';
import { MTU_DEFAULT, isStationAddress } from './protocol.ts';

export interface NetDeviceOptions {
  /** Six bytes; an individual address. */
  readonly mac: Uint8Array;
  /** The wire; attached here, and let go by whoever made it. */
  readonly port: NetPort;
  /** Bytes of payload after the Ethernet header, from 68 to 65,535. Default 1500. */
  readonly mtu?: number;
  /** Default true. */
  readonly linkUp?: boolean;
  /** Largest size of each queue: a power of two from 4. Default 256. */
  readonly queueSize?: number;
}

/** The options, checked. */
export interface NetDeviceProfile {
  readonly mac: Uint8Array;
  readonly port: NetPort;
  readonly mtu: number;
  readonly linkUp: boolean;
  readonly queueSize: number;
}

/** What the device offers. */
export const NET_DEVICE_FEATURES: FeatureBits = featureBits(
  VIRTIO_RING_F_INDIRECT_DESC,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_STATUS,
);

const QUEUE_SIZE_MAX = 32768;

/** @throws RangeError naming the option that is out of range */
export function resolveDeviceOptions(options: NetDeviceOptions): NetDeviceProfile {
  const { mac, port, mtu = MTU_DEFAULT, linkUp = true, queueSize = 256 } = options;
  if (!isStationAddress(mac)) throw new RangeError(`mac ${mac.join(':')} is not the address of a station`);
  if (!Number.isInteger(mtu) || mtu < VIRTIO_NET_MTU_MIN || mtu > VIRTIO_NET_MTU_MAX) {
    throw new RangeError(`mtu ${mtu} is not from ${VIRTIO_NET_MTU_MIN} to ${VIRTIO_NET_MTU_MAX}`);
  }
  if (!(queueSize >= 4 && queueSize <= QUEUE_SIZE_MAX) || (queueSize & (queueSize - 1)) !== 0) {
    throw new RangeError(`queueSize ${queueSize} is not a power of two from 4 to ${QUEUE_SIZE_MAX}`);
  }
  return { mac: mac.slice(), port, mtu, linkUp, queueSize };
}
