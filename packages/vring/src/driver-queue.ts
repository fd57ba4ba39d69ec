import type { DriverQueue, DriverQueueOptions } from './contract.ts';
import { DriverAreas, packedAreaSizes, splitAreaSizes } from './driver-areas.ts';
import { PackedDriverQueue } from './packed-driver-queue.ts';
import { isPackedQueueSize } from './packed-views.ts';
import { isQueueSize } from './ring-views.ts';
import { SplitDriverQueue } from './split-driver-queue.ts';

const BUFFER_COUNT_MAX_DEFAULT = 128;

/**
 * Makes the driver half, split or packed as `features` say, with its areas allocated from `options.dma`. Throws
 * `RangeError` for a size over 32768 or, of a split ring, no power of two, or a `bufferCountMax` that is no positive
 * integer, `DmaError` when memory or grant entries run out (nothing stays allocated).
 */
export function createDriverQueue(options: DriverQueueOptions): DriverQueue {
  const { size, dma, features, bufferCountMax = BUFFER_COUNT_MAX_DEFAULT, usedAlignSize } = options;
  const packed = features.packed === true;
  if (packed ? !isPackedQueueSize(size) : !isQueueSize(size)) {
    const kind = packed ? 'no integer' : 'no power of two';
    throw new RangeError(`Queue size ${size} is ${kind} of at most 32768`);
  }
  if (!Number.isInteger(bufferCountMax) || bufferCountMax < 1) {
    throw new RangeError(`bufferCountMax ${bufferCountMax} is not a positive integer`);
  }
  // A chain may not be longer than the queue, in a table either (§2.7.5.3.1, §2.8.17); a single buffer needs no table.
  const tableCapacity = Math.min(bufferCountMax, size);
  const tables = features.indirect && tableCapacity > 1 ? tableCapacity : 0;
  const sizes = packed ? packedAreaSizes(size) : splitAreaSizes(size, usedAlignSize);
  const areas = new DriverAreas(dma, size, tables, sizes);
  return packed ? new PackedDriverQueue(areas, dma, features) : new SplitDriverQueue(areas, dma, features);
}
