import { IdentityDeviceMemory, IdentityDmaMapper, type MemoryRegion } from '@virtlab/guest-memory';
import {
  type BufferList,
  type DeviceQueue,
  type DriverQueue,
  type RingFeatures,
  createBufferList,
  createDeviceQueue,
  createDriverQueue,
} from '@virtlab/vring';

export interface RingPair {
  readonly driver: DriverQueue;
  readonly device: DeviceQueue;
  /** One buffer of 8 bytes to read. */
  readonly request: BufferList;
}

/** The two halves of one queue over memory that both see at the same addresses, the areas at its beginning. */
export function createRingPair(region: MemoryRegion, size: number, features: RingFeatures): RingPair {
  const driver = createDriverQueue({ size, dma: new IdentityDmaMapper(region), features });
  const made = createDeviceQueue({
    addresses: driver.addresses,
    memory: new IdentityDeviceMemory([{ guestAddress: 0n, region }]),
    features,
  });
  if (!made.ok) throw new Error(made.violation.message);
  const request = createBufferList();
  request.addReadable(region.size - 8, 8);
  return { driver, device: made.queue, request };
}
