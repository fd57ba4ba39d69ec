import { atoi } from './c-number.ts';
import type { XenstoreQuotas } from './profile.ts';
import { ACK, type Outcome, type Request } from './request.ts';
import { nulStrings } from './wire.ts';

interface QuotaSetting {
  readonly name: string;
  readonly key: keyof XenstoreQuotas;
  readonly description: string;
}

const HARD_QUOTAS: readonly QuotaSetting[] = [
  { name: 'nodes', key: 'nodes', description: 'Nodes per domain' },
  { name: 'watches', key: 'watches', description: 'Watches per domain' },
  { name: 'transactions', key: 'transactions', description: 'Transactions per domain' },
  { name: 'outstanding', key: 'outstanding', description: 'Outstanding requests per domain' },
  { name: 'transaction-nodes', key: 'transactionNodes', description: 'Nodes accessed per transaction' },
  { name: 'memory', key: 'memorySize', description: 'Memory per domain, limit' },
  { name: 'node-size', key: 'nodeSize', description: 'Size of a node' },
  { name: 'path-max', key: 'pathSize', description: 'Length of a path' },
  { name: 'permissions', key: 'permissions', description: 'Permissions per node' },
];

const SOFT_QUOTAS: readonly QuotaSetting[] = [
  { name: 'memory', key: 'softMemorySize', description: 'Memory per domain, warning' },
];

type Command = (request: Request, parameters: readonly string[]) => Outcome;

interface CommandEntry {
  readonly run: Command;
  readonly parameters: string;
}

const COMMANDS: ReadonlyMap<string, CommandEntry> = new Map([
  ['check', { run: check, parameters: '' }],
  ['memreport', { run: memoryReport, parameters: '[<file>]' }],
  ['print', { run: print, parameters: '<string>' }],
  ['quota', { run: quota, parameters: '[set <name> <val>|<domid>]' }],
  ['quota-soft', { run: softQuota, parameters: '[set <name> <val>]' }],
  ['help', { run: help, parameters: '' }],
]);

/** XS_CONTROL (xenstore.txt, "Administrative xenstore requests"; xenstore-control(8) for the commands). */
export function control(request: Request): Outcome {
  const [name, ...parameters] = nulStrings(request.payload);
  const command = name === undefined ? undefined : COMMANDS.get(name);
  return command === undefined ? 'EINVAL' : command.run(request, parameters);
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

function quota(request: Request, parameters: readonly string[]): Outcome {
  const [first, ...others] = parameters;
  if (first === undefined) return showQuotas(request, HARD_QUOTAS);
  if (first === 'set') return setQuota(request, HARD_QUOTAS, others);
  return others.length > 0 ? 'EINVAL' : showUse(request, atoi(first) >>> 0);
}

function softQuota(request: Request, parameters: readonly string[]): Outcome {
  const [first, ...others] = parameters;
  if (first === undefined) return showQuotas(request, SOFT_QUOTAS);
  return first === 'set' ? setQuota(request, SOFT_QUOTAS, others) : 'EINVAL';
}

function help(request: Request, parameters: readonly string[]): Outcome {
  if (parameters.length > 0) return 'EINVAL';
  const lines = Array.from(COMMANDS, ([name, command]) => `${name}\t${command.parameters}\n`);
  request.reply(`${lines.join('')}\0`);
  return undefined;
}

function showQuotas(request: Request, settings: readonly QuotaSetting[]): Outcome {
  const lines = settings.map(({ name, key, description }) => {
    return `${name.padEnd(17)}: ${String(request.store.quotas[key]).padStart(8)} ${description}\n`;
  });
  request.reply(`Quota settings:\n${lines.join('')}\0`);
  return undefined;
}

function setQuota(
  request: Request,
  settings: readonly QuotaSetting[],
  parameters: readonly string[],
): Outcome {
  const [name, text] = parameters;
  if (name === undefined || text === undefined || parameters.length > 2) return 'EINVAL';
  const value = atoi(text);
  const setting = settings.find((candidate) => candidate.name === name);
  if (value < 1 || setting === undefined) return 'EINVAL';
  request.store.quotas[setting.key] = value;
  request.reply(ACK);
  return undefined;
}

function showUse(request: Request, domid: number): Outcome {
  const domain = request.store.domain(domid);
  if (domain === undefined) return 'ENOENT';
  const lines = [
    ['nodes', domain.nodeCount],
    ['watches', domain.watchCount],
    ['transactions', domain.transactionCount],
    ['outstanding', domain.outstandingCount],
    ['memory', domain.memorySize],
  ].map(([name, value]) => `${String(name).padEnd(16)}: ${String(value).padStart(8)}\n`);
  request.reply(`Domain ${domid}:\n${lines.join('')}\0`);
  return undefined;
}
