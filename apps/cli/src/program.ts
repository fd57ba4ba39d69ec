import { readFileSync } from 'node:fs';
import { Command, InvalidArgumentError, Option } from 'commander';
import { EXIT_OK, EXIT_USAGE } from './exit-codes.ts';
import { runDemoCommand } from './demo-command.ts';

/** The `virtlab` command. Errors go to stderr; exit codes are those of `exit-codes.ts`. */
export function createProgram(): Command {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  const program = new Command('virtlab')
    .description(
      'A laboratory for virtio transports: one driver and one device over virtio_pci and virtio_xenbus',
    )
    .version(version)
    .showHelpAfterError('(virtlab --help shows what there is)')
    .exitOverride((error) => process.exit(error.exitCode === 0 ? EXIT_OK : EXIT_USAGE));
  program.addCommand(demoCommand());
  return program;
}

function demoCommand(): Command {
  return new Command('demo')
    .description(
      'boots domain 0 and guests as processes, runs real work over each transport, shuts down in order',
    )
    .addOption(
      new Option('--transport <name>', 'which transport').choices(['pci', 'xenbus', 'all']).default('all'),
    )
    .option(
      '--disk <image>',
      "an existing raw image, read as it is and never written (default: an image of the demo's own)",
    )
    .addOption(
      new Option('--keep-image <path>', "make the demo's own image here and leave it").conflicts('disk'),
    )
    .option('--domains <count>', 'how many guests', wholeNumber, 2)
    .option('--pcap <file>', 'write the frames of the switch to this file')
    .option(
      '--tap <interface>',
      'plug this TAP interface of this machine into the switch (made if it is not there)',
    )
    .option('--seconds <seconds>', 'length of each measurement', positiveNumber, 1)
    .option('--json', 'print one JSON document instead of the report', false)
    .exitOverride((error) => process.exit(error.exitCode === 0 ? EXIT_OK : EXIT_USAGE))
    .action(runDemoCommand);
}

function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('It is not a whole number.');
  return Number(text);
}

function positiveNumber(text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 3600))
    throw new InvalidArgumentError('It is not a number above 0 and up to 3600.');
  return value;
}
