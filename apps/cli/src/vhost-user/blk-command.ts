import { type Command, Option } from 'commander';
import { type BlkFlags, blkPlan } from './blk-plan.ts';
import { BLK_CAPABILITIES } from './capabilities.ts';
import { daemonCommand } from './daemon-command.ts';
import { byteSize, countUpTo, powerOfTwo } from './option-values.ts';

const QUEUE_COUNT_MAX = 64;

export function blkCommand(): Command {
  return daemonCommand<BlkFlags>({
    name: 'vhost-user-blk',
    description: 'A disk for QEMU’s -device vhost-user-blk-pci, or any other VhostUserFrontend.',
    capabilities: BLK_CAPABILITIES,
    device: blkPlan,
  })
    .option('-b, --blk-file <path>', 'a raw image or a block device; nobody else may use it meanwhile')
    .option('-r, --read-only', 'a disk that cannot be written', false)
    .addOption(
      new Option(
        '--backend <kind>',
        'where sectors are: in the file, in memory (of a file, if one is given), nowhere',
      )
        .choices(['raw', 'memory', 'null'])
        .default('raw'),
    )
    .option('--size <bytes>', 'of a disk without an image, such as 64M', byteSize)
    .option('--num-queues <count>', 'queues that the driver may use', countUpTo(QUEUE_COUNT_MAX), 1)
    .option(
      '--threads <count>',
      'that serve the queues (default: one a queue, fewer than there are processors)',
      countUpTo(QUEUE_COUNT_MAX),
    )
    .option('--queue-size <count>', 'entries of each queue at most', powerOfTwo, 256)
    .option('--discard', 'the driver may give back what it needs no more', false)
    .option('--serial <text>', 'what the disk says it is called, at most 20 characters', '');
}
