import type { FeatureBits } from '@virtlab/abi/brands';
import { featureBits, hasFeature } from '@virtlab/abi/virtio';
import * as net from '@virtlab/abi/virtio-net';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import type { AioContext } from '@virtlab/aio';
import { PAGE_SIZE } from '@virtlab/guest-memory';
import { ALL_RING_FEATURES } from '@virtlab/virtio';
import { NET_DEVICE_FEATURES } from './device-options.ts';
import { NetError } from './errors.ts';
import { ACCEPT_CSUM } from './frame-offload.ts';
import {
  NET_HEADER_SIZE,
  RECEIVE_BUFFER_SIZE_MIN,
  UNFINISHED_FRAME_SIZE_MAX,
  frameSizeLimit,
} from './protocol.ts';

export interface NetDriverOptions {
  /** The loop that handlers run in. */
  readonly aio: AioContext;
  /** Entries of each queue at most. A power of two. Default 256. */
  readonly queueSize?: number;
  /** For each control operation. Default 5000. */
  readonly timeoutMs?: number;
  /** Receive buffers in each ring. Default: as many as the queue has entries, within 4 MiB. */
  readonly rxBufferCount?: number;
  /** Bytes of each, with MRG_RXBUF; a multiple of 4. Default 2048 if a whole frame fits there, else a page. */
  readonly rxBufferSize?: number;
  /** Accepted where offered. `NET_DRIVER_FEATURES` is the default, `NET_DRIVER_ALL_FEATURES` the most. */
  readonly wanted?: FeatureBits;
  /** Ring features accepted where offered, in place of those in `wanted`: of `ALL_RING_FEATURES`. */
  readonly ringFeatures?: FeatureBits;
  /** Pairs of queues to use, as many as the device has; more than one accepts MQ. Default 1. */
  readonly queuePairs?: number;
  /**
   * Somebody else serves the control queue, as the side of the driver does over vhost-user: what is asked for there is not
   * accepted, and every pair that is enabled is in use. Where the transport has no configuration to read either (`ENOTSUP`), what
   * it would say is not accepted, and there are as many pairs as the transport has queues for. Default false.
   */
  readonly controlElsewhere?: boolean;
  /** A transmit queue without progress for so long is reported, see `NetDriver.onStuck`; 0 does not watch. Default 5000. */
  readonly txTimeoutMs?: number;
  /** Take part in the loop's adaptive polling. Default true. */
  readonly polling?: boolean;
}

/** What a driver accepts that deals in finished frames. */
export const NET_DRIVER_FEATURES: FeatureBits = featureBits(
  VIRTIO_RING_F_INDIRECT_DESC,
  VIRTIO_RING_F_EVENT_IDX,
  net.VIRTIO_NET_F_MTU,
  net.VIRTIO_NET_F_MAC,
  net.VIRTIO_NET_F_MRG_RXBUF,
  net.VIRTIO_NET_F_STATUS,
  net.VIRTIO_NET_F_CTRL_VQ,
  net.VIRTIO_NET_F_CTRL_RX,
  net.VIRTIO_NET_F_CTRL_RX_EXTRA,
  net.VIRTIO_NET_F_GUEST_ANNOUNCE,
  net.VIRTIO_NET_F_CTRL_MAC_ADDR,
  net.VIRTIO_NET_F_NOTF_COAL,
  net.VIRTIO_NET_F_VQ_NOTF_COAL,
  net.VIRTIO_NET_F_SPEED_DUPLEX,
);

/** Frames may be left unfinished, in both directions: `onFrame` handlers then look at what is left to do. */
export const NET_DRIVER_OFFLOADS: FeatureBits = featureBits(
  net.VIRTIO_NET_F_CSUM,
  net.VIRTIO_NET_F_GUEST_CSUM,
  net.VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  net.VIRTIO_NET_F_GUEST_TSO4,
  net.VIRTIO_NET_F_GUEST_TSO6,
  net.VIRTIO_NET_F_GUEST_ECN,
  net.VIRTIO_NET_F_HOST_TSO4,
  net.VIRTIO_NET_F_HOST_TSO6,
  net.VIRTIO_NET_F_HOST_ECN,
  net.VIRTIO_NET_F_GUEST_USO4,
  net.VIRTIO_NET_F_GUEST_USO6,
  net.VIRTIO_NET_F_HOST_USO,
  net.VIRTIO_NET_F_GUEST_HDRLEN,
);

/** What the driver can make use of. */
export const NET_DRIVER_ALL_FEATURES: FeatureBits = NET_DEVICE_FEATURES;

export interface ResolvedDriverOptions {
  readonly aio: AioContext;
  readonly queueSize: number;
  readonly timeoutMs: number;
  readonly rxBufferCount: number | undefined;
  readonly rxBufferSize: number | undefined;
  readonly wanted: FeatureBits;
  readonly queuePairs: number;
  readonly controlElsewhere: boolean;
  readonly txTimeoutMs: number;
  readonly polling: boolean;
}

/** @throws RangeError naming the option that is out of range */
export function resolveDriverOptions(options: NetDriverOptions): ResolvedDriverOptions {
  const { queueSize = 256, timeoutMs = 5000, queuePairs = 1, txTimeoutMs = 5000 } = options;
  const { rxBufferCount, rxBufferSize } = options;
  if (!(timeoutMs > 0 && Number.isFinite(timeoutMs)))
    throw new RangeError(`timeoutMs ${timeoutMs} is not positive`);
  if (!(txTimeoutMs >= 0 && Number.isFinite(txTimeoutMs)))
    throw new RangeError(`txTimeoutMs ${txTimeoutMs} is not a time`);
  if (!(Number.isInteger(queuePairs) && queuePairs >= 1))
    throw new RangeError(`queuePairs ${queuePairs} is not a positive integer`);
  if (rxBufferCount !== undefined && !(Number.isInteger(rxBufferCount) && rxBufferCount > 0)) {
    throw new RangeError(`rxBufferCount ${rxBufferCount} is not a positive integer`);
  }
  // §5.1.9.3.1: each buffer takes at least the header.
  if (rxBufferSize !== undefined && !(rxBufferSize >= NET_HEADER_SIZE && rxBufferSize % 4 === 0)) {
    throw new RangeError(
      `rxBufferSize ${rxBufferSize} is no multiple of 4 of at least ${NET_HEADER_SIZE} bytes`,
    );
  }
  const wanted = resolveWanted(options, queuePairs);
  const { aio, polling = true, controlElsewhere = false } = options;
  const buffers = { queueSize, rxBufferCount, rxBufferSize };
  return { aio, timeoutMs, ...buffers, wanted, queuePairs, controlElsewhere, txTimeoutMs, polling };
}

function resolveWanted(
  { wanted = NET_DRIVER_FEATURES, ringFeatures }: NetDriverOptions,
  pairs: number,
): FeatureBits {
  if ((wanted & ~NET_DRIVER_ALL_FEATURES) !== 0n) {
    throw new RangeError(`wanted 0x${wanted.toString(16)} has features that the driver does not know`);
  }
  const ring = ringFeatures ?? wanted & ALL_RING_FEATURES;
  if ((ring & ~ALL_RING_FEATURES) !== 0n) {
    throw new RangeError(`ringFeatures 0x${ring.toString(16)} has features that are no ring's`);
  }
  const multi = pairs > 1 ? featureBits(net.VIRTIO_NET_F_MQ) : 0n;
  return (wanted & ~ALL_RING_FEATURES) | ring | multi;
}

/** Buffers of one queue. */
export interface BufferPlan {
  readonly count: number;
  /** Bytes of each; a multiple of 4. */
  readonly size: number;
}

/** Buffers that are as large as the largest frames take no more memory than this, unless asked for. */
const MEMORY_SIZE_MAX = 4 << 20;
/** Nor those for frames to be segmented, which are few at a time. */
const UNFINISHED_MEMORY_SIZE_MAX = 2 << 20;
const SMALL_BUFFER_SIZE = 2048;

/** Half a page where a frame fits, so that a buffer lies in one page; else whole pages. */
function wholeFrameSize(mtu: number, headerSize: number): number {
  const size = Math.max(headerSize + frameSizeLimit(mtu), RECEIVE_BUFFER_SIZE_MIN);
  return size <= SMALL_BUFFER_SIZE ? SMALL_BUFFER_SIZE : toPages(size);
}

function toPages(size: number): number {
  return Math.ceil(size / PAGE_SIZE) * PAGE_SIZE;
}

/** One buffer a frame. */
export function planTransmit(
  mtu: number,
  ringSize: number,
  headerSize: number = NET_HEADER_SIZE,
): BufferPlan {
  const size = wholeFrameSize(mtu, headerSize);
  return { size, count: Math.max(1, Math.min(ringSize, Math.floor(MEMORY_SIZE_MAX / size))) };
}

/** For frames that the device segments; none if it does not. */
export function planUnfinished(accept: number, ringSize: number, headerSize: number): BufferPlan {
  const size = toPages(headerSize + UNFINISHED_FRAME_SIZE_MAX);
  const isNeeded = (accept & ~ACCEPT_CSUM) !== 0;
  return { size, count: isNeeded ? Math.min(ringSize, Math.floor(UNFINISHED_MEMORY_SIZE_MAX / size)) : 0 };
}

/**
 * §5.1.9.3.1: without MRG_RXBUF each buffer takes a whole frame, and with segments left to us that is one of 64 KiB;
 * §5.1.4.2: together they take at least one frame.
 *
 * @throws NetError `ENOSPC` when the ring and the options allow less than that
 */
export function planReceive(
  mtu: number,
  features: FeatureBits,
  ringSize: number,
  options: Pick<ResolvedDriverOptions, 'rxBufferSize' | 'rxBufferCount'>,
  accept: number = 0,
  headerSize: number = NET_HEADER_SIZE,
): BufferPlan {
  const isUnfinished = (accept & ~ACCEPT_CSUM) !== 0;
  const needed = headerSize + (isUnfinished ? UNFINISHED_FRAME_SIZE_MAX : frameSizeLimit(mtu));
  const whole = isUnfinished ? toPages(needed) : wholeFrameSize(mtu, headerSize);
  const isMerging = hasFeature(features, net.VIRTIO_NET_F_MRG_RXBUF);
  const size = isMerging ? (options.rxBufferSize ?? Math.min(whole, PAGE_SIZE)) : whole;
  const wanted = options.rxBufferCount ?? Math.max(1, Math.floor(MEMORY_SIZE_MAX / size));
  const count = Math.min(wanted, ringSize);
  if (size < headerSize || count * size < needed) {
    throw new NetError(
      'ENOSPC',
      `${count} receive buffers of ${size} bytes do not hold one frame of ${needed} bytes`,
    );
  }
  return { size, count };
}
