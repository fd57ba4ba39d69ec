import { ACK, type Outcome, type Request } from './request.ts';

/** Of C HEAD, in the order of `trace_switches`. */
const LOG_SWITCHES = ['obj', 'io', 'wrl', 'acc', 'tdb'] as const;

/** CONTROL `log`. */
export function setLog(request: Request, parameters: readonly string[]): Outcome {
  const [word] = parameters;
  const hasSwitches = request.store.profile.quotasPerDomain;
  if (word === undefined && hasSwitches) return showSwitches(request);
  if (word === undefined || parameters.length > 1) return 'EINVAL';
  if (word === 'on' || word === 'off') request.control.log?.(word === 'on');
  else if (!hasSwitches || !turnSwitch(request, word)) return 'EINVAL';
  request.reply(ACK);
  return undefined;
}

/** CONTROL `logfile`. Whether the file can be opened, the reply does not tell. */
export function setLogFile(request: Request, parameters: readonly string[]): Outcome {
  const [file] = parameters;
  if (file === undefined || parameters.length > 1) return 'EINVAL';
  request.control.logFile?.(file);
  request.reply(ACK);
  return undefined;
}

function showSwitches(request: Request): Outcome {
  const { logSwitches } = request.controlState;
  const lines = LOG_SWITCHES.map((name) => `${name.padEnd(8)}: ${logSwitches.has(name) ? 'on' : 'off'}\n`);
  request.reply(`Log switch settings:\n${lines.join('')}\0`);
  return undefined;
}

function turnSwitch(request: Request, word: string): boolean {
  const sign = word.charAt(0);
  const name = word.slice(1);
  const { logSwitches } = request.controlState;
  if ((sign !== '+' && sign !== '-') || !LOG_SWITCHES.some((known) => known === name)) return false;
  if (sign === '+') logSwitches.add(name);
  else logSwitches.delete(name);
  request.control.logSwitches?.(logSwitches);
  return true;
}
