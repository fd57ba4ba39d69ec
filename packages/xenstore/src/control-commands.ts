import { setLog, setLogFile } from './control-log.ts';
import { quota, softQuota } from './control-quota.ts';
import { liveUpdate } from './live-update.ts';
import type { XenstoreProfile } from './profile.ts';
import { ACK, type Outcome, type Request } from './request.ts';

/** One CONTROL command. */
export interface ControlCommandEntry {
  readonly run: (request: Request, parameters: readonly string[]) => Outcome;
  /** What `help` says of its parameters. */
  readonly usage: string;
  /** Further parameters are ignored. Default: none are. */
  readonly parameterCountMax?: number;
}

const LU_4_17 = '[-c <cmdline>] [-F] [-t <timeout>] <file>\n    Default timeout is 60 seconds.';
const LU_HEAD =
  '[-c <cmdline>] [-F] [-t <timeout>] [-v <version>] <file>\n' +
  '    Default timeout is 60 seconds, default version is 2.';

const COMMANDS_4_17: ReadonlyMap<string, ControlCommandEntry> = new Map<string, ControlCommandEntry>([
  ['check', { run: check, usage: '' }],
  ['log', { run: setLog, usage: 'on|off' }],
  ['live-update', { run: liveUpdate, usage: LU_4_17, parameterCountMax: 4 }],
  ['logfile', { run: setLogFile, usage: '<file>' }],
  ['memreport', { run: memoryReport, usage: '[<file>]' }],
  ['print', { run: print, usage: '<string>' }],
  ['quota', { run: quota, usage: '[set <name> <val>|<domid>]' }],
  ['quota-soft', { run: softQuota, usage: '[set <name> <val>]' }],
  ['help', { run: help, usage: '' }],
]);

const COMMANDS_HEAD: ReadonlyMap<string, ControlCommandEntry> = new Map<string, ControlCommandEntry>([
  ...COMMANDS_4_17,
  ['log', { run: setLog, usage: '[on|off|+<switch>|-<switch>]' }],
  ['live-update', { run: liveUpdate, usage: LU_HEAD, parameterCountMax: 6 }],
  ['quota', { run: quota, usage: '[set <name> <val>|<domid>|max [-r]]' }],
]);

/** The profile's commands, in the order of `help`. */
export function controlCommands(profile: XenstoreProfile): ReadonlyMap<string, ControlCommandEntry> {
  return profile.quotasPerDomain ? COMMANDS_HEAD : COMMANDS_4_17;
}

function check(request: Request, parameters: readonly string[]): Outcome {
  if (parameters.length > 0) return 'EINVAL';
  for (const problem of request.store.verify()) request.control.print?.(`check: ${problem}`);
  request.reply(ACK);
  return undefined;
}

function print(request: Request, parameters: readonly string[]): Outcome {
  const [text] = parameters;
  if (text === undefined || parameters.length > 1) return 'EINVAL';
  request.control.print?.(text);
  request.reply(ACK);
  return undefined;
}

/** Without a file it goes to the log; without a log that is EBADF, which no reply can carry, so EINVAL. */
function memoryReport(request: Request, parameters: readonly string[]): Outcome {
  if (parameters.length > 1) return 'EINVAL';
  const lines = request.store
    .use()
    .map(({ domid, memorySize, nodeCount }) => `domain ${domid}: ${memorySize} bytes, ${nodeCount} nodes\n`);
  const sink = request.control.memoryReport;
  const failure = sink === undefined ? 'EINVAL' : sink(lines.join(''), parameters[0]);
  if (failure === undefined) request.reply(ACK);
  return failure;
}

function help(request: Request, parameters: readonly string[]): Outcome {
  if (parameters.length > 0) return 'EINVAL';
  const { profile } = request.store;
  const lines = Array.from(controlCommands(profile), ([name, { usage }]) =>
    profile.quotasPerDomain ? `${name.padEnd(15)} ${usage}\n` : `${name}\t${usage}\n`,
  );
  request.reply(`${lines.join('')}\0`);
  return undefined;
}
