import { type Command, Option } from 'commander';
import { newCommand } from '../command-table.ts';
import { EXIT_USAGE } from '../exit-codes.ts';
import { wholeNumber } from '../option-values.ts';
import { type BackendCapabilities, printCapabilities } from './capabilities.ts';
import type { DaemonPlan } from './daemon-plan.ts';
import { collect } from './option-values.ts';
import { placesOf } from './places.ts';
import { runDaemon } from './run-daemon.ts';

/** Longer than a guest under emulation takes from the end of a request to its next kick. */
const POLL_US_DEFAULT = 200;

/** What all of them have: QEMU docs/interop/vhost-user.rst, "Backend program conventions". */
interface CommonFlags {
  readonly socketPath?: readonly string[];
  readonly fd?: number;
  readonly pollUs: number;
  readonly loop: DaemonPlan['loop'];
  readonly printCapabilities?: boolean;
  readonly json: boolean;
}

export interface DaemonCommandOptions<Flags> {
  readonly name: string;
  readonly description: string;
  /** What `--print-capabilities` says; without them there is no such option. */
  readonly capabilities?: BackendCapabilities;
  /** Sockets that one daemon may serve. Default 1. */
  readonly placesMax?: number;
  /** May throw `StartError`. */
  readonly device: (flags: Flags, placeCount: number) => DaemonPlan['device'];
}

/** A command that serves a device by vhost-user; what is the device's own is added by the caller. */
export function daemonCommand<Flags>(options: DaemonCommandOptions<Flags>): Command {
  const { name, description, capabilities, placesMax = 1 } = options;
  const several = placesMax > 1 ? '; may be given several times' : '';
  const command = newCommand(name, EXIT_USAGE)
    .description(`${description}\nIn the foreground; SIGINT and SIGTERM end it, a second one at once.`)
    .option('-s, --socket-path <path>', `where to listen${several}`, collect(String))
    .option('--fd <number>', 'an inherited socket instead, listening or connected', wholeNumber);
  if (capabilities !== undefined)
    command.option('--print-capabilities', 'say what this program can do, and end', false);
  command.addOption(
    new Option(
      '--poll-us <microseconds>',
      'look for work for at most so long before sleeping; 0 sleeps at once',
    )
      .argParser(wholeNumber)
      .default(POLL_US_DEFAULT),
  );
  command.addOption(
    new Option('--loop <kind>', 'how the thread sleeps: in poll(2), or in the event loop of Node')
      .choices(['poll', 'events'])
      .default('poll'),
  );
  return command.option('--json', 'print what happens, a JSON text a line', false).action(async () => {
    const flags = command.opts<Flags & CommonFlags>();
    if (capabilities !== undefined && flags.printCapabilities === true) printCapabilities(capabilities);
    else await runDaemon(name, flags.json, () => planOf(flags, placesMax, options));
  });
}

function planOf<Flags>(
  flags: Flags & CommonFlags,
  placesMax: number,
  { device, name }: DaemonCommandOptions<Flags>,
): DaemonPlan {
  const places = placesOf(flags.socketPath, flags.fd, placesMax, name);
  return { places, device: device(flags, places.length), pollNs: flags.pollUs * 1000, loop: flags.loop };
}
