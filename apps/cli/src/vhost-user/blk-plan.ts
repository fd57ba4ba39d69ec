import { accessSync, constants, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_SECTOR_SIZE } from '@virtlab/abi/virtio-blk';
import { StartError } from '../start-error.ts';
import type { BlkPlan } from './daemon-plan.ts';

export interface BlkFlags {
  readonly blkFile?: string;
  readonly backend: BlkPlan['backend'];
  readonly size?: number;
  readonly readOnly: boolean;
  readonly numQueues: number;
  readonly queueSize: number;
  readonly discard: boolean;
  readonly serial: string;
  readonly threads?: number;
}

/** Throws `StartError` for what cannot be worked with, before anything is opened. */
export function blkPlan(flags: BlkFlags): BlkPlan {
  const { backend, blkFile: file, size, readOnly, serial } = flags;
  if (serial.length > VIRTIO_BLK_ID_BYTES || !/^[ -~]*$/.test(serial)) {
    throw new StartError(
      'usage',
      `--serial ${serial}: not at most ${VIRTIO_BLK_ID_BYTES} characters of ASCII`,
    );
  }
  if (file !== undefined) checkImage(file, readOnly || backend === 'memory');
  checkSize(flags);
  const { numQueues, threads = threadCountFor(numQueues) } = flags;
  if (threads > numQueues) {
    throw new StartError('usage', `--threads ${threads} are more than the queues, --num-queues ${numQueues}`);
  }
  return {
    kind: 'blk',
    backend,
    file,
    size,
    readOnly,
    serial,
    queueCount: numQueues,
    threadCount: threads,
    queueSize: flags.queueSize,
    discard: flags.discard,
  };
}

/** One processor is left to the driver: threads that take turns with it are slower than one that does not. */
function threadCountFor(queueCount: number): number {
  return Math.max(1, Math.min(queueCount, availableParallelism() - 1));
}

function checkSize({ backend, blkFile, size }: BlkFlags): void {
  const refuse = (message: string): never => {
    throw new StartError('usage', message);
  };
  if (backend === 'raw' && blkFile === undefined) refuse('--backend raw needs --blk-file');
  if (backend === 'null' && blkFile !== undefined)
    refuse('--backend null keeps nothing: not with --blk-file');
  if (backend === 'raw' && size !== undefined)
    refuse('--size is for --backend memory and null: a file has its own');
  if (backend !== 'raw' && (size === undefined) === (blkFile === undefined)) {
    refuse(
      backend === 'null' ? '--backend null needs --size' : '--backend memory needs --size, or --blk-file',
    );
  }
  if (size !== undefined && (size === 0 || size % VIRTIO_BLK_SECTOR_SIZE !== 0)) {
    refuse(`--size ${size} is not a multiple of ${VIRTIO_BLK_SECTOR_SIZE}`);
  }
}

function checkImage(file: string, readOnly: boolean): void {
  try {
    accessSync(file, readOnly ? constants.R_OK : constants.R_OK | constants.W_OK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const why =
      code === 'ENOENT' ? 'there is no such file' : `it cannot be ${readOnly ? 'read' : 'written'} (${code})`;
    throw new StartError('usage', `--blk-file ${file}: ${why}`);
  }
  const stats = statSync(file);
  if (stats.isFile() && (stats.size === 0 || stats.size % VIRTIO_BLK_SECTOR_SIZE !== 0)) {
    const message = `its ${stats.size} bytes are not a multiple of ${VIRTIO_BLK_SECTOR_SIZE}`;
    throw new StartError('usage', `--blk-file ${file}: ${message}`);
  }
}
