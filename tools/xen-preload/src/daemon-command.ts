import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RealXenstoredOptions } from './contract.ts';

export interface DaemonCommand {
  readonly parameters: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

/** Below the daemon's directory; the preload library leads Xen's compiled-in paths to the same places. */
export const RUN_DIRECTORY = 'run';
export const LOG_DIRECTORY = 'log';
export const LIB_DIRECTORY = 'lib';
export const PORT_FILE = 'port';

/** Command line and environment that keep the daemon in the foreground and all its files in `directory`. */
export function daemonCommand(options: RealXenstoredOptions, directory: string): DaemonCommand {
  const run = join(directory, RUN_DIRECTORY);
  const more = options.arguments ?? [];
  if (options.kind === 'c') {
    return {
      parameters: ['-N', '-F', join(run, 'xenstored.pid'), ...more],
      environment: { XENSTORED_RUNDIR: run },
    };
  }
  const configuration = join(directory, 'oxenstored.conf');
  writeFileSync(configuration, oxenstoredConfiguration(options, directory));
  return {
    parameters: ['--no-fork', '--no-access-log', '--config-file', configuration, ...more],
    environment: {},
  };
}

/** What Xen ships as oxenstored.conf; without these lines quotas are ten times larger or off. */
const SHIPPED_CONFIGURATION: readonly string[] = [
  'test-eagain = false',
  'merge-activate = true',
  'conflict-burst-limit = 5.0',
  'conflict-max-history-seconds = 0.05',
  'conflict-rate-limit-is-aggregate = true',
  'perms-activate = true',
  'perms-watch-activate = true',
  'quota-activate = true',
  'quota-maxentity = 1000',
  'quota-maxsize = 2048',
  'quota-maxwatch = 100',
  'quota-transaction = 10',
  'quota-maxrequests = 1024',
  'quota-path-max = 1024',
  'quota-maxoutstanding = 1024',
  'quota-maxwatchevents = 1024',
  'persistent = false',
];

/** Later lines win, so those of the caller come last. */
function oxenstoredConfiguration(options: RealXenstoredOptions, directory: string): string {
  const lines = [
    ...SHIPPED_CONFIGURATION,
    `pid-file = ${join(directory, RUN_DIRECTORY, 'xenstored.pid')}`,
    `xenstored-kva = ${join(directory, 'ring-0')}`,
    `xenstored-port = ${join(directory, PORT_FILE)}`,
    ...(options.configuration ?? []),
  ];
  return lines.map((line) => `${line}\n`).join('');
}
