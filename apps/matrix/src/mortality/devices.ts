import type { VirtioDevice } from '@virtlab/virtio';
import {
  BACKEND_PENDING,
  type BlockBackend,
  createBlkDevice,
  createMemoryBackend,
} from '@virtlab/virtio-blk';
import { openRawFileBackend } from '@virtlab/virtio-blk/node';
import { type LearningSwitch, createNetDevice } from '@virtlab/virtio-net';
import { createRngDevice, webCryptoSource } from '@virtlab/virtio-rng';
import type { DeviceSpec } from './messages.ts';

const SECTOR_SIZE = 512;
const DISK_SIZE = 1 << 20;
export const STATION_MAC: Uint8Array = Uint8Array.of(2, 0, 0, 0, 0, 0xfe);

export function guestMac(last: number): Uint8Array {
  return Uint8Array.of(2, 0, 0, 0, 0, last);
}

/** In a backend directory: what the driver domain shall make, as JSON. */
export const DEVICE_SPEC_KEY = 'params';

export interface MadeDevice extends AsyncDisposable {
  readonly device: VirtioDevice;
}

export async function makeDevice(
  spec: DeviceSpec,
  guest: string,
  network: LearningSwitch,
): Promise<MadeDevice> {
  switch (spec.kind) {
    case 'rng':
      return {
        device: createRngDevice({ source: webCryptoSource }),
        [Symbol.asyncDispose]: () => Promise.resolve(),
      };
    case 'net':
      return {
        device: createNetDevice({ mac: guestMac(spec.mac), port: network.addPort(guest) }),
        [Symbol.asyncDispose]: async () => void network.removePort(guest),
      };
    case 'blk': {
      const { image, stalledSectors = 0 } = spec;
      const storage =
        image === undefined ? createMemoryBackend({ contents: DISK_SIZE }) : await openRawFileBackend(image);
      const backend = stalledSectors > 0 ? stalling(storage, stalledSectors) : storage;
      return {
        device: createBlkDevice({ backend }),
        [Symbol.asyncDispose]: () => backend.close(),
      };
    }
  }
}

/** A disk whose first sectors are never read to the end. */
function stalling(storage: BlockBackend, sectorCount: number): BlockBackend {
  return {
    capacitySectors: storage.capacitySectors,
    readOnly: storage.readOnly,
    blockSize: storage.blockSize,
    onComplete: (completion) => storage.onComplete(completion),
    read: (region, offset, size, position, token) =>
      position < sectorCount * SECTOR_SIZE
        ? BACKEND_PENDING
        : storage.read(region, offset, size, position, token),
    write: (region, offset, size, position, token) => storage.write(region, offset, size, position, token),
    flush: (token) => storage.flush(token),
    discard: (position, size, token) => storage.discard(position, size, token),
    writeZeroes: (position, size, unmap, token) => storage.writeZeroes(position, size, unmap, token),
    submit: () => storage.submit(),
    close: () => storage.close(),
  };
}
