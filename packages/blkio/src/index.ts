export {
  BLKIO_BROKEN,
  BLKIO_FULL,
  BLKIO_REQ_FUA,
  BLKIO_REQ_NO_FALLBACK,
  BLKIO_REQ_NO_UNMAP,
  type Blkio,
  type BlkioCompletions,
  type BlkioLimits,
  type BlkioOptions,
  type BlkioPromises,
  type BlkioQueue,
  type BlkioQueueStatistics,
  type BlkioRegion,
  type BlkioVector,
} from './contract.ts';
export { createCompletions } from './completions.ts';
export { BlkioError, type BlkioErrorCode } from './errors.ts';
export { openBlkio } from './open.ts';
export { createVector } from './vector.ts';
