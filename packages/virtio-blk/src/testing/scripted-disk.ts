import { VIRTIO_ID_BLOCK } from '@virtlab/abi/virtio';
import { VIRTIO_BLK_OUTHDR } from '@virtlab/abi/virtio-blk';
import { VRING_DESC_F_WRITE } from '@virtlab/abi/virtio-ring';
import {
  type ScriptedChain,
  ScriptedTransport,
  type ScriptedTransportOptions,
} from '@virtlab/virtio/testing';

export type ScriptedDiskOptions = Pick<ScriptedTransportOptions, 'features' | 'config'> &
  Partial<ScriptedTransportOptions>;

/** A request as it stands in memory. */
export interface SeenRequest extends ScriptedChain {
  readonly type: number;
  readonly sector: bigint;
}

/** A disk of one queue, unless the options say otherwise. */
export function createScriptedDisk(options: ScriptedDiskOptions): ScriptedTransport {
  return new ScriptedTransport({ deviceType: VIRTIO_ID_BLOCK, queueCount: 1, ...options });
}

/** Requests made available since the last time. */
export function takeRequests(disk: ScriptedTransport): SeenRequest[] {
  return Array.from({ length: disk.available() }, () => {
    const chain = disk.take();
    const header = VIRTIO_BLK_OUTHDR.read(viewOf(disk), disk.at(chain.descriptors[0]!.address));
    return { ...chain, type: header.type, sector: header.sector };
  });
}

/** Writes the status byte, or not, and a used entry that claims `usedSize`; without a call. */
export function useRequest(
  disk: ScriptedTransport,
  { head, descriptors }: SeenRequest,
  status: number | undefined,
  usedSize?: number,
): void {
  const writable = descriptors.filter(({ flags }) => (flags & VRING_DESC_F_WRITE) !== 0);
  const { address } = writable.at(-1)!;
  if (status !== undefined) viewOf(disk).setUint8(disk.at(address), status);
  const size = writable.reduce((sum, descriptor) => sum + descriptor.size, 0);
  disk.rings[0]!.use(head, usedSize ?? size);
}

function viewOf({ memory }: ScriptedTransport): DataView {
  return new DataView(memory.u8.buffer, memory.u8.byteOffset, memory.size);
}
