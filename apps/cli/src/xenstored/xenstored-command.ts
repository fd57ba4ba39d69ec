import { type Command, Option } from 'commander';
import { FAULT_USAGE, PROFILE_C_4_17, XENSTORE_PROFILES } from '@virtlab/xenstore';
import { newCommand } from '../command-table.ts';
import { EXIT_USAGE } from '../exit-codes.ts';
import { wholeNumber } from '../option-values.ts';
import { runXenstored } from './run-xenstored.ts';

export function xenstoredCommand(): Command {
  return newCommand('xenstored', EXIT_USAGE)
    .description(
      'A xenstore daemon on a Unix socket, in the foreground, that answers as the named real one does.\n' +
        'SIGINT and SIGTERM end it, a second one at once; SIGHUP opens the access log anew.',
    )
    .option(
      '--socket <path>',
      "where to listen (default: XENSTORED_PATH, $XENSTORED_RUNDIR/socket, the user's)",
    )
    .addOption(
      new Option('--profile <name>', 'which daemon to be')
        .choices([...XENSTORE_PROFILES.keys()])
        .default(PROFILE_C_4_17.name),
    )
    .option('--quota <name=value...>', 'limits of unprivileged domains')
    .option('--access-log <file>', 'append a line for each request, event and cause')
    .option('--trace', 'print each message, decoded, on stderr', false)
    .option('--dump <file>', 'write the tree to this file in the end')
    .option('--restore <file>', 'begin with the tree of this file')
    .option('--force-eagain <count>', 'the next so many transactions end with EAGAIN', wholeNumber)
    .option('--fault <fault...>', `what is to go wrong: ${FAULT_USAGE}`)
    .option('--seed <number>', 'of faults that come at random', wholeNumber)
    .option('--json', 'print the line that says it is ready as JSON', false)
    .action(runXenstored);
}
