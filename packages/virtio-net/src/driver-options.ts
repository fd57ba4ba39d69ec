import type { FeatureBits } from '@virtlab/abi/brands';
import { featureBits, hasFeature } from '@virtlab/abi/virtio';
import {
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
} from '@virtlab/abi/virtio-net';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '@virtlab/abi/virtio-ring';
import type { AioContext } from '@virtlab/aio';
import { PAGE_SIZE } from '@virtlab/guest-memory';
import { NetError } from './errors.ts';
import { NET_HEADER_SIZE, RECEIVE_BUFFER_SIZE_MIN, frameSizeLimit } from './protocol.ts';

export interface NetDriverOptions {
  /** The loop that handlers run in. */
  readonly aio: AioContext;
  /** Entries of each queue at most. A power of two. Default 256. */
  readonly queueSize?: number;
  /** For each control operation. Default 5000. */
  readonly timeoutMs?: number;
  /** Receive buffers in the ring. Default: as many as the queue has entries, within 4 MiB. */
  readonly rxBufferCount?: number;
  /** Bytes of each, with MRG_RXBUF; a multiple of 4. Default 2048 if a whole frame fits there, else a page. */
  readonly rxBufferSize?: number;
  /** Leaves out offered features; `NET_DRIVER_FEATURES` is the default and the most. */
  readonly wanted?: FeatureBits;
  /** Take part in the loop's adaptive polling. Default true. */
  readonly polling?: boolean;
}

/** What the driver can make use of. */
export const NET_DRIVER_FEATURES: FeatureBits = featureBits(
  VIRTIO_RING_F_INDIRECT_DESC,
  VIRTIO_RING_F_EVENT_IDX,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_STATUS,
);

export interface ResolvedDriverOptions {
  readonly aio: AioContext;
  readonly queueSize: number;
  readonly timeoutMs: number;
  readonly rxBufferCount: number | undefined;
  readonly rxBufferSize: number | undefined;
  readonly wanted: FeatureBits;
  readonly polling: boolean;
}

/** @throws RangeError naming the option that is out of range */
export function resolveDriverOptions(options: NetDriverOptions): ResolvedDriverOptions {
  const { queueSize = 256, timeoutMs = 5000, wanted = NET_DRIVER_FEATURES } = options;
  const { rxBufferCount, rxBufferSize } = options;
  if (!(timeoutMs > 0 && Number.isFinite(timeoutMs)))
    throw new RangeError(`timeoutMs ${timeoutMs} is not positive`);
  if ((wanted & ~NET_DRIVER_FEATURES) !== 0n) {
    throw new RangeError(`wanted 0x${wanted.toString(16)} has features that the driver does not know`);
  }
  if (rxBufferCount !== undefined && !(Number.isInteger(rxBufferCount) && rxBufferCount > 0)) {
    throw new RangeError(`rxBufferCount ${rxBufferCount} is not a positive integer`);
  }
  // §5.1.6.3.2: each buffer takes at least the header.
  if (rxBufferSize !== undefined && !(rxBufferSize >= NET_HEADER_SIZE && rxBufferSize % 4 === 0)) {
    throw new RangeError(
      `rxBufferSize ${rxBufferSize} is no multiple of 4 of at least ${NET_HEADER_SIZE} bytes`,
    );
  }
  const { aio, polling = true } = options;
  return { aio, queueSize, timeoutMs, rxBufferCount, rxBufferSize, wanted, polling };
}

/** Buffers of one queue. */
export interface BufferPlan {
  readonly count: number;
  /** Bytes of each; a multiple of 4. */
  readonly size: number;
}

/** Buffers that are as large as the largest frames take no more memory than this, unless asked for. */
const MEMORY_SIZE_MAX = 4 << 20;
const SMALL_BUFFER_SIZE = 2048;

/** Half a page where a frame fits, so that a buffer lies in one page; else whole pages. */
function wholeFrameSize(mtu: number): number {
  const size = Math.max(NET_HEADER_SIZE + frameSizeLimit(mtu), RECEIVE_BUFFER_SIZE_MIN);
  return size <= SMALL_BUFFER_SIZE ? SMALL_BUFFER_SIZE : Math.ceil(size / PAGE_SIZE) * PAGE_SIZE;
}

/** One buffer a frame. */
export function planTransmit(mtu: number, ringSize: number): BufferPlan {
  const size = wholeFrameSize(mtu);
  return { size, count: Math.max(1, Math.min(ringSize, Math.floor(MEMORY_SIZE_MAX / size))) };
}

/**
 * §5.1.6.3.1: without MRG_RXBUF each buffer takes a whole frame; §5.1.4.2: together they take at least one frame.
 *
 * @throws NetError `ENOSPC` when the ring and the options allow less than that
 */
export function planReceive(
  mtu: number,
  features: FeatureBits,
  ringSize: number,
  options: ResolvedDriverOptions,
): BufferPlan {
  const whole = wholeFrameSize(mtu);
  const isMerging = hasFeature(features, VIRTIO_NET_F_MRG_RXBUF);
  const size = isMerging ? (options.rxBufferSize ?? Math.min(whole, PAGE_SIZE)) : whole;
  const wanted = options.rxBufferCount ?? Math.max(1, Math.floor(MEMORY_SIZE_MAX / size));
  const count = Math.min(wanted, ringSize);
  const needed = NET_HEADER_SIZE + frameSizeLimit(mtu);
  if (count * size < needed) {
    throw new NetError(
      'ENOSPC',
      `${count} receive buffers of ${size} bytes do not hold one frame of ${needed} bytes`,
    );
  }
  return { size, count };
}
