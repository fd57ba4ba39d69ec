import type { FeatureBits } from '@virtlab/abi/brands';
import { VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED, featureBits } from '@virtlab/abi/virtio';
import { VIRTIO_BLK_DISCARD_WRITE_ZEROES, VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import type { BlockBackend } from '../backend.ts';
import type { BlkDeviceOptions } from '../device-options.ts';
import { createBlkDevice } from '../device.ts';
import type { BlkDriver } from '../driver-contract.ts';
import type { BlkDriverOptions } from '../driver-options.ts';
import { createBlkDriver } from '../driver.ts';
import { createMemoryBackend } from '../memory-backend.ts';
import { BlkBench, type BlkBenchOptions } from './blk-bench.ts';
import { HeldBackend } from './held-backend.ts';
import { RawRequester } from './request.ts';

/** Sectors of the disk of most tests. */
export const CAPACITY = 256;

/** Its contents at the start: every byte is told from its neighbours, and every sector from the next. */
export function disk(): Uint8Array {
  return PATTERN.slice();
}

const PATTERN: Uint8Array = Uint8Array.from(
  { length: CAPACITY * VIRTIO_BLK_SECTOR_SIZE },
  (_, at) => (at + (at >> 9)) & 0xff,
);

export function heldDisk(readOnly: boolean = false): HeldBackend {
  return new HeldBackend(createMemoryBackend({ contents: disk(), readOnly }));
}

/** A range as it stands in a discard or write zeroes. */
export function range(sector: bigint, count: number, flags: number = 0): Uint8Array {
  const bytes = new Uint8Array(VIRTIO_BLK_DISCARD_WRITE_ZEROES.size);
  VIRTIO_BLK_DISCARD_WRITE_ZEROES.write(new DataView(bytes.buffer), 0, { sector, num_sectors: count, flags });
  return bytes;
}

/** With VIRTIO_F_IN_ORDER requests do not end in the order in which the backend does. */
const ORDERED: FeatureBits = featureBits(VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED);

export interface DeviceScene extends Omit<BlkDeviceOptions, 'backend'> {
  /** Features to negotiate; default: all but packed and in-order rings. */
  readonly wanted?: FeatureBits;
}

/** Runs `body` with a raw requester before a live device. Throws if anything is still held afterwards. */
export async function withDevice(
  backend: BlockBackend,
  body: (requester: RawRequester, bench: BlkBench) => Promise<void>,
  { wanted, ...options }: DeviceScene = {},
): Promise<void> {
  const device = createBlkDevice({ backend, ...options });
  const bench = new BlkBench({ device });
  const requester = new RawRequester(await bench.initialize(wanted ?? device.features & ~ORDERED));
  await body(requester, bench);
  await bench.run(requester.stop());
  await bench.closeClean();
}

export interface DriverScene {
  readonly device?: Omit<BlkDeviceOptions, 'backend'>;
  readonly driver?: Partial<BlkDriverOptions>;
  readonly bench?: Omit<BlkBenchOptions, 'device'>;
}

/** Runs `body` with the driver of a live device. Throws if anything is still held afterwards. */
export async function withDriver(
  backend: BlockBackend,
  body: (driver: BlkDriver, bench: BlkBench) => Promise<void>,
  scene: DriverScene = {},
): Promise<void> {
  const bench = new BlkBench({ ...scene.bench, device: createBlkDevice({ backend, ...scene.device }) });
  const driver = await bench.run(createBlkDriver(bench.link, { aio: bench.aio, ...scene.driver }));
  await body(driver, bench);
  await bench.run(driver.close());
  await bench.closeClean();
}

/** The code with which `work` rejects. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  return await work.then(
    () => 'resolved',
    (error: Error & { code?: string }) => error.code ?? error.name,
  );
}
