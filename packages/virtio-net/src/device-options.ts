import type { FeatureBits } from '@virtlab/abi/brands';
import { featureBits } from '@virtlab/abi/virtio';
import * as net from '@virtlab/abi/virtio-net';
import { VIRTIO_NET_MTU_MAX, VIRTIO_NET_MTU_MIN, VIRTIO_NET_SPEED_UNKNOWN } from '@virtlab/abi/virtio-net';
import { ALL_RING_FEATURES } from '@virtlab/virtio';
import type { TransmitMode } from './device-transmit.ts';
import type { NetPort } from './network.ts';
import { CONTROL_FEATURES, refuseNetFeatures } from './net-features.ts';
import { MTU_DEFAULT, hasPairs, isStationAddress } from './protocol.ts';

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
  /** Pairs of queues, from 1 to 128. Default 1, and then neither MQ nor RSS is offered. */
  readonly queuePairs?: number;
  /**
   * Somebody else serves the control queue, as QEMU does for its vhost-user cards: there is none here, and every pair is in use
   * whose receive queue is enabled. Default false.
   */
  readonly controlElsewhere?: boolean;
  /** Leaves out offered features; `NET_DEVICE_FEATURES` is the default and the most. */
  readonly features?: FeatureBits;
  /** When packets to send are looked at: see `TransmitMode`. Default `kick`. */
  readonly tx?: TransmitMode['mode'];
  /** With `tx: 'timer'`: nanoseconds until they are, which the loop rounds up to its timers' step. Default 150,000. */
  readonly txTimerNs?: number;
  /** Packets sent in one go. Default 256. */
  readonly txBurst?: number;
  /** Mbit/s as the driver is told; default unknown. */
  readonly speed?: number;
}

/** The options, checked. */
export interface NetDeviceProfile {
  readonly mac: Uint8Array;
  readonly port: NetPort;
  readonly mtu: number;
  readonly linkUp: boolean;
  readonly queueSize: number;
  readonly queuePairs: number;
  readonly controlElsewhere: boolean;
  readonly features: FeatureBits;
  readonly transmit: TransmitMode;
  readonly speed: number;
}

/** What a device with several pairs offers; MQ and RSS are left out where there is one. */
export const NET_DEVICE_FEATURES: FeatureBits =
  ALL_RING_FEATURES |
  featureBits(
    net.VIRTIO_NET_F_CSUM,
    net.VIRTIO_NET_F_GUEST_CSUM,
    net.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
    net.VIRTIO_NET_F_MTU,
    net.VIRTIO_NET_F_MAC,
    net.VIRTIO_NET_F_GUEST_TSO4,
    net.VIRTIO_NET_F_GUEST_TSO6,
    net.VIRTIO_NET_F_GUEST_ECN,
    net.VIRTIO_NET_F_HOST_TSO4,
    net.VIRTIO_NET_F_HOST_TSO6,
    net.VIRTIO_NET_F_HOST_ECN,
    net.VIRTIO_NET_F_MRG_RXBUF,
    net.VIRTIO_NET_F_STATUS,
    net.VIRTIO_NET_F_CTRL_VQ,
    net.VIRTIO_NET_F_CTRL_RX,
    net.VIRTIO_NET_F_CTRL_VLAN,
    net.VIRTIO_NET_F_CTRL_RX_EXTRA,
    net.VIRTIO_NET_F_GUEST_ANNOUNCE,
    net.VIRTIO_NET_F_MQ,
    net.VIRTIO_NET_F_CTRL_MAC_ADDR,
    net.VIRTIO_NET_F_VQ_NOTF_COAL,
    net.VIRTIO_NET_F_NOTF_COAL,
    net.VIRTIO_NET_F_GUEST_USO4,
    net.VIRTIO_NET_F_GUEST_USO6,
    net.VIRTIO_NET_F_HOST_USO,
    net.VIRTIO_NET_F_HASH_REPORT,
    net.VIRTIO_NET_F_GUEST_HDRLEN,
    net.VIRTIO_NET_F_RSS,
    net.VIRTIO_NET_F_SPEED_DUPLEX,
  );

const PAIR_FEATURES = featureBits(net.VIRTIO_NET_F_MQ, net.VIRTIO_NET_F_RSS);

const QUEUE_SIZE_MAX = 32768;
/** More queues than any transport here carries would be of no use. */
const QUEUE_PAIRS_MAX = 128;

/** @throws RangeError naming the option that is out of range */
export function resolveDeviceOptions(options: NetDeviceOptions): NetDeviceProfile {
  const { mac, port, mtu = MTU_DEFAULT, linkUp = true, queueSize = 256, queuePairs = 1 } = options;
  const { controlElsewhere = false } = options;
  const { tx = 'kick', txTimerNs = 150_000, txBurst = 256, speed = VIRTIO_NET_SPEED_UNKNOWN } = options;
  if (!isStationAddress(mac)) throw new RangeError(`mac ${mac.join(':')} is not the address of a station`);
  if (!Number.isInteger(mtu) || mtu < VIRTIO_NET_MTU_MIN || mtu > VIRTIO_NET_MTU_MAX) {
    throw new RangeError(`mtu ${mtu} is not from ${VIRTIO_NET_MTU_MIN} to ${VIRTIO_NET_MTU_MAX}`);
  }
  if (!(queueSize >= 4 && queueSize <= QUEUE_SIZE_MAX) || (queueSize & (queueSize - 1)) !== 0) {
    throw new RangeError(`queueSize ${queueSize} is not a power of two from 4 to ${QUEUE_SIZE_MAX}`);
  }
  requireInteger('queuePairs', queuePairs, QUEUE_PAIRS_MAX);
  requireInteger('txBurst', txBurst, QUEUE_SIZE_MAX);
  requireInteger('txTimerNs', txTimerNs, 1e9);
  const without = (queuePairs === 1 ? PAIR_FEATURES : 0n) | (controlElsewhere ? CONTROL_FEATURES : 0n);
  const features = (options.features ?? NET_DEVICE_FEATURES) & ~without;
  if ((features & ~NET_DEVICE_FEATURES) !== 0n) {
    throw new RangeError(`features 0x${features.toString(16)} has some that the device does not know`);
  }
  const problem = refuseNetFeatures(features, controlElsewhere);
  if (problem !== undefined) throw new RangeError(`features 0x${features.toString(16)}: ${problem}`);
  const transmit: TransmitMode = { mode: tx, timerNs: txTimerNs, burst: txBurst };
  return {
    mac: mac.slice(),
    port,
    mtu,
    linkUp,
    queueSize,
    queuePairs,
    controlElsewhere,
    features,
    transmit,
    speed,
  };
}

function requireInteger(name: string, value: number, max: number): void {
  if (!Number.isInteger(value) || value < 1 || value > max)
    throw new RangeError(`${name} ${value} is not from 1 to ${max}`);
}

/** Where the control queue is, depending on what the driver accepted (§5.1.2). */
export function controlQueueIndex(features: FeatureBits, pairCount: number): number {
  return net.virtioNetControlQueue(hasPairs(features) ? pairCount : 1);
}
