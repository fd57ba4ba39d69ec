import { ETHERNET_HEADER_SIZE } from '@virtlab/abi/ethernet';
import { VIRTIO_NET_HDR_GSO_NONE } from '@virtlab/abi/virtio-net';
import { NO_OFFLOAD } from './frame-offload.ts';
import type { FrameView } from './network.ts';
import { UNFINISHED_FRAME_SIZE_MAX } from './protocol.ts';

// V8 folds a module's own constants into optimized code, but loads imported ones from their cells each time.
const SIZE_MIN = ETHERNET_HEADER_SIZE;
const NOTHING = NO_OFFLOAD;

/** Whether a frame, or each of the frames that become of it, has an Ethernet header and at most `finishedSizeMax` bytes. */
export function isFrameSize({ size, offload }: FrameView, finishedSizeMax: number): boolean {
  if (size < SIZE_MIN) return false;
  if (offload === NOTHING || offload.gsoType === VIRTIO_NET_HDR_GSO_NONE) return size <= finishedSizeMax;
  return size <= UNFINISHED_FRAME_SIZE_MAX && offload.hdrLen + offload.gsoSize <= finishedSizeMax;
}

/** Frames that become of it. */
export function segmentCount({ size, offload }: FrameView): number {
  if (offload.gsoType === VIRTIO_NET_HDR_GSO_NONE) return 1;
  return Math.ceil((size - offload.hdrLen) / offload.gsoSize);
}
