import { VIRTIO_ID_BLOCK, featureBits } from '@virtlab/abi/virtio';
import {
  VIRTIO_BLK_CONFIG,
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_OUTHDR,
} from '@virtlab/abi/virtio-blk';
import { VRING_DESC_F_WRITE } from '@virtlab/abi/virtio-ring';
import type { DriverLink } from '@virtlab/virtio';
import { type ScriptedChain, ScriptedTransport, SimulatedLoops } from '@virtlab/virtio/testing';
import type { Blkio, BlkioOptions, BlkioQueue } from '../contract.ts';
import { openBlkio } from '../open.ts';

export const DISK_FEATURES: bigint = featureBits(
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_WRITE_ZEROES,
);

type Config = Partial<ReturnType<typeof VIRTIO_BLK_CONFIG.read>>;

export function configBytes(fields: Config): Uint8Array {
  const bytes = new Uint8Array(VIRTIO_BLK_CONFIG.size);
  const view = new DataView(bytes.buffer);
  const usual = {
    capacity: 2048n,
    seg_max: 4,
    size_max: 8192,
    blk_size: 512,
    max_discard_sectors: 64,
    discard_sector_alignment: 8,
    max_write_zeroes_sectors: 64,
  };
  VIRTIO_BLK_CONFIG.write(view, 0, { ...VIRTIO_BLK_CONFIG.read(view, 0), ...usual, ...fields });
  return bytes;
}

export interface ScriptedScene {
  readonly disk: Blkio;
  readonly queue: BlkioQueue;
  /** The device: all script. */
  readonly device: ScriptedTransport;
  readonly loops: SimulatedLoops;
}

export interface ScriptedOptions extends Partial<BlkioOptions> {
  readonly features?: bigint;
  readonly config?: Config;
  /** Of the link, which has none otherwise. */
  readonly mapMemory?: NonNullable<DriverLink['mapMemory']>;
}

/** A disk on a device that does what the test does. Closes it, and throws when something is left. */
export async function withScript(
  { features = DISK_FEATURES, config = {}, mapMemory, ...options }: ScriptedOptions,
  body: (scene: ScriptedScene) => Promise<void> | void,
): Promise<void> {
  const device = new ScriptedTransport({
    deviceType: VIRTIO_ID_BLOCK,
    queueCount: 1,
    features,
    config: configBytes(config),
  });
  const loops = new SimulatedLoops(1);
  const requireClean = (): void => {
    const left = [...device.leaks(), ...loops.driverAio.leaks()];
    loops[Symbol.dispose]();
    if (left.length > 0) throw new Error(`still held: ${left.join('; ')}`);
  };
  let disk: Blkio;
  try {
    const link: DriverLink = mapMemory === undefined ? device.link : { ...device.link, mapMemory };
    disk = await loops.run(openBlkio(link, { aio: loops.driverAio, ...options }));
  } catch (error) {
    requireClean();
    throw error;
  }
  await body({ disk, queue: disk.queues[0]!, device, loops });
  await loops.run(disk.close());
  requireClean();
}

/** A request as it stands in memory. */
export interface SeenRequest extends ScriptedChain {
  readonly type: number;
  readonly sector: bigint;
}

/** Requests made available since the last time. */
export function takeRequests(device: ScriptedTransport): SeenRequest[] {
  return Array.from({ length: device.available() }, () => {
    const chain = device.take();
    const view = new DataView(device.memory.u8.buffer);
    return { ...chain, ...VIRTIO_BLK_OUTHDR.read(view, device.at(chain.descriptors[0]!.address)) };
  });
}

/** Writes the status byte, or not, and a used entry; without a call. */
export function useRequest(
  device: ScriptedTransport,
  request: SeenRequest,
  status: number | undefined,
): void {
  const writable = request.descriptors.filter(({ flags }) => (flags & VRING_DESC_F_WRITE) !== 0);
  if (status !== undefined) device.memory.u8[device.at(writable.at(-1)!.address)] = status;
  device.rings[0]!.use(request.head, 1);
}
