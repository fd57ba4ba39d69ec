import { HostileDmaMapper } from '@virtlab/guest-memory/testing';
import type { DriverQueue, RingFeatures } from '../contract.ts';
import { createDriverQueue } from '../driver-queue.ts';
import { RawPackedRing } from './packed-raw-ring.ts';
import { PackedScriptedDevice } from './packed-scripted-device.ts';
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

interface RigParts {
  readonly dma: HostileDmaMapper;
  readonly queue: DriverQueue;
  /** Offset of 64 KiB of driver memory for payloads. */
  readonly payload: number;
  /** Releases the queue and the payload; throws when anything is left. The queue's answer. */
  close(): boolean;
}

/** A driver half with a scripted device behind it, on a mapper that copies, poisons and keeps books. */
export interface DriverRig extends RigParts {
  readonly device: ScriptedDevice;
}
export interface PackedDriverRig extends RigParts {
  readonly device: PackedScriptedDevice;
}

const PAYLOAD_SIZE = 0x1_0000;

export function createDriverRig(options: DriverRigOptions = {}): DriverRig {
  const parts = assemble(options, false);
  const reach = reachDeviceMemory(parts.dma.deviceMemory);
  return { ...parts, device: new ScriptedDevice(new RawRing(parts.queue.addresses, reach)) };
}

/** The same with a packed ring. */
export function createPackedDriverRig(options: DriverRigOptions = {}): PackedDriverRig {
  const parts = assemble(options, true);
  const reach = reachDeviceMemory(parts.dma.deviceMemory);
  return { ...parts, device: new PackedScriptedDevice(new RawPackedRing(parts.queue.addresses, reach)) };
}

function assemble(options: DriverRigOptions, packed: boolean): RigParts {
  const { size = 8, bufferCountMax, shareMax } = options;
  const features = { indirect: false, eventIdx: false, ...options.features, packed };
  const dma = new HostileDmaMapper({ memorySize: 1 << 21, ...(shareMax === undefined ? {} : { shareMax }) });
  const limit = bufferCountMax === undefined ? {} : { bufferCountMax };
  const queue = createDriverQueue({ size, dma, features, ...limit });
  const payload = dma.allocate(PAYLOAD_SIZE);
  const close = (): boolean => {
    const released = queue.release();
    dma.free(payload, PAYLOAD_SIZE);
    if (released) dma.assertNothingLent();
    return released;
  };
  return { dma, queue, payload, close };
}
