import { DemoError, type DemoOptions, runDemo } from '@virtlab/demo';
import { type Command, Option } from 'commander';
import { newCommand } from './command-table.ts';
import {
  EXIT_ENVIRONMENT,
  EXIT_FAILED,
  EXIT_INTERRUPTED,
  EXIT_TERMINATED,
  EXIT_USAGE,
} from './exit-codes.ts';
import { positiveNumber, wholeNumber } from './option-values.ts';

interface DemoFlags {
  readonly transport: 'pci' | 'xenbus' | 'all';
  readonly disk?: string;
  readonly keepImage?: string;
  readonly domains: number;
  readonly pcap?: string;
  readonly tap?: string;
  readonly seconds: number;
  readonly json: boolean;
}

export function demoCommand(): Command {
  return newCommand('demo', EXIT_USAGE)
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
    .action(runDemoCommand);
}

/** Runs the demo; on SIGINT or SIGTERM shuts the lab down in order, and on a second one at once. */
async function runDemoCommand(flags: DemoFlags): Promise<void> {
  const controller = new AbortController();
  const interrupt = (signal: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(exitCodeOf(signal)); // domains see their hypervisor go and end themselves
    process.stderr.write('virtlab: shutting down\n');
    controller.abort(signal);
  };
  process.on('SIGINT', interrupt);
  process.on('SIGTERM', interrupt);
  try {
    const result = await runDemo(optionsOf(flags), controller.signal);
    if (flags.json) process.stdout.write(`${JSON.stringify(result, undefined, 2)}\n`);
  } catch (error) {
    process.exitCode = report(error);
  } finally {
    process.off('SIGINT', interrupt);
    process.off('SIGTERM', interrupt);
  }
}

function optionsOf({
  transport,
  disk,
  keepImage,
  domains,
  pcap,
  tap,
  seconds,
  json,
}: DemoFlags): DemoOptions {
  return {
    transports: transport === 'all' ? ['pci', 'xenbus'] : [transport],
    disk,
    keepImage,
    domains,
    pcap,
    tap,
    seconds,
    json,
  };
}

function report(error: unknown): number {
  if (error === 'SIGINT' || error === 'SIGTERM') return exitCodeOf(error);
  process.stderr.write(`virtlab: ${error instanceof Error ? error.message : String(error)}\n`);
  if (!(error instanceof DemoError)) {
    process.stderr.write(`${error instanceof Error ? error.stack : ''}\n`);
    return EXIT_FAILED;
  }
  switch (error.kind) {
    case 'usage':
      return EXIT_USAGE;
    case 'environment':
      return EXIT_ENVIRONMENT;
    case 'failed':
      return EXIT_FAILED;
  }
}

function exitCodeOf(signal: NodeJS.Signals): number {
  return signal === 'SIGINT' ? EXIT_INTERRUPTED : EXIT_TERMINATED;
}
