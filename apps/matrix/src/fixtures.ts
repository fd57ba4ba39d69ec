import type { VirtioDevice } from '@virtlab/virtio';
import { createBlkDevice, createMemoryBackend } from '@virtlab/virtio-blk';
import { createHostPort, createLearningSwitch, createNetDevice } from '@virtlab/virtio-net';
import { createRngDevice } from '@virtlab/virtio-rng';
import { echoFrames } from './echo-station.ts';
import type { DeviceName } from './exercises.ts';

/** What the devices of every cell are made of, so that the drivers know what to expect. */
export const DISK_SECTORS = 8192;
export const DISK_SERIAL = 'grid';
export const MAC: Uint8Array = Uint8Array.of(2, 0, 0, 0, 0, 5);
export const PEER_MAC: Uint8Array = Uint8Array.of(2, 0, 0, 0, 0, 9);
export const FRAME_SIZES: readonly number[] = [60, 61, 128, 1000, 1514];

/** The byte at a position of the endless sequence that the entropy device hands out. */
export function randomByteAt(position: number): number {
  return (position * 197 + (position >>> 8) * 31) & 0xff;
}

/** A device of the grid, new for each cell. */
export function createDevice(name: DeviceName): VirtioDevice {
  switch (name) {
    case 'rng':
      return createSequenceDevice();
    case 'blk':
      return createBlkDevice({
        backend: createMemoryBackend({ contents: DISK_SECTORS * 512 }),
        serial: DISK_SERIAL,
      });
    case 'net':
      return createEchoDevice();
  }
}

function createSequenceDevice(): VirtioDevice {
  let position = 0;
  return createRngDevice({
    source: {
      fill: (bytes) => {
        for (let index = 0; index < bytes.length; index += 1) bytes[index] = randomByteAt(position + index);
        position += bytes.length;
      },
    },
  });
}

/** A network card whose wire leads to a station that sends every frame back. */
function createEchoDevice(): VirtioDevice {
  const wire = createLearningSwitch();
  const station = createHostPort(wire, 'echo');
  echoFrames(station, PEER_MAC);
  return createNetDevice({ mac: MAC, port: wire.addPort('card') });
}
