import { HostileDmaMapper } from '@virtlab/guest-memory/testing';
import type { DriverQueue, RingFeatures } from '../contract.ts';
import { createDriverQueue } from '../driver-queue.ts';
import { RawRing, reachDeviceMemory } from './raw-ring.ts';
import { ScriptedDevice } from './scripted-device.ts';

export interface DriverRigOptions {
  /** Entries; default 8. */
  readonly size?: number;
  readonly features?: Partial<RingFeatures>;
  readonly bufferCountMax?: number;
  /** Streaming shares that may live at a time. */
  readonly shareMax?: number;
}

/** A driver half with a scripted device behind it, on a mapper that copies, poisons and keeps books. */
export interface DriverRig {
  readonly dma: HostileDmaMapper;
  readonly queue: DriverQueue;
  readonly device: ScriptedDevice;
  /** Offset of 64 KiB of driver memory for payloads. */
  readonly payload: number;
  /** Releases the queue and the payload; throws when anything is left. The queue's answer. */
  close(): boolean;
}

const PAYLOAD_SIZE = 0x1_0000;

export function createDriverRig(options: DriverRigOptions = {}): DriverRig {
  const { size = 8, bufferCountMax, shareMax } = options;
  const features = { indirect: false, eventIdx: false, ...options.features };
  const dma = new HostileDmaMapper({ memorySize: 1 << 21, ...(shareMax === undefined ? {} : { shareMax }) });
  const limit = bufferCountMax === undefined ? {} : { bufferCountMax };
  const queue = createDriverQueue({ size, dma, features, ...limit });
  const payload = dma.allocate(PAYLOAD_SIZE);
  return {
    dma,
    queue,
    device: new ScriptedDevice(new RawRing(queue.addresses, reachDeviceMemory(dma.deviceMemory))),
    payload,
    close: () => {
      const released = queue.release();
      dma.free(payload, PAYLOAD_SIZE);
      if (released) dma.assertNothingLent();
      return released;
    },
  };
}
