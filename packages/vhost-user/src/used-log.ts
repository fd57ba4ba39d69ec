import { VRING_PACKED_DESC_EVENT, vringPackedDescSize, vringUsedSize } from '@virtlab/abi/virtio-ring';
import type { DirtyLog } from './dirty-log.ts';
import type { QueueObserver } from './observed-queue.ts';

/** Split: marks the used ring at its log address each time that something was published in it ("Migration"). */
export function usedRingLog(log: DirtyLog, logAddress: bigint, size: number): QueueObserver {
  const start = Number(logAddress);
  const usedSize = vringUsedSize(size);
  return { published: () => log.mark(start, usedSize) };
}

/**
 * Packed: used descriptors are written over those that the driver made available, so what is marked is the ring where the driver
 * has it, in guest addresses as all the log. The address that comes with the ring is that of its third area whatever the format
 * (QEMU), which is the device's event word here.
 */
export function packedRingLog(
  log: DirtyLog,
  descriptorArea: bigint,
  logAddress: bigint,
  size: number,
): QueueObserver {
  const ring = Number(descriptorArea);
  const ringSize = vringPackedDescSize(size);
  const event = Number(logAddress);
  return {
    published() {
      log.mark(ring, ringSize);
      log.mark(event, VRING_PACKED_DESC_EVENT.size);
    },
  };
}
