import type { GeneratorState } from './generator-state.ts';
import { OPERATIONS, type OperationName } from './operations.ts';
import type { Random } from './random.ts';
import type { Step } from './script.ts';

type RequestStep = Extract<Step, { kind: 'request' }>;

const NAMES = ['a', 'b', 'c'] as const;
const HOMES = ['', '/local/domain/5', '/local/domain/6', '/shared', '/shared'] as const;
const TOKENS = ['t', 'u', 'a long token with spaces', '\x01\xff', ''] as const;
const PERMISSIONS = [
  'n0',
  'r0',
  'b0',
  'n5',
  'b5',
  'n6',
  'r6',
  'w5',
  'r5',
  'b6',
  'n7',
  'r7',
  'w0',
  'n8',
  'b8',
] as const;
const ODD_PERMISSIONS = ['R5', 'n', '', 'x5', 'n99999', 'r-1', 'n5x'] as const;
const ODD_PATHS = [
  '',
  '/',
  '//a',
  '/a/',
  '/a b',
  '/a.b',
  '@x',
  '@introduceDomain',
  '@releaseDomain',
  '/p/@y',
] as const;
const DOMIDS = ['0', '5', '6', '7', '9', '007', 'x', '', '-1', '32752', '70000'] as const;

/**
 * Domain 8 stays. A target that dies first would be kept by the C daemons, which crash when it is introduced again; so
 * would domains that are their own target.
 */
const TARGETS = ['5\x008\0', '6\x008\0', '7\x008\0', '5\x009\0', '9\x008\0', '5\0'] as const;

/**
 * `usual`: a bit of everything that all daemons have. `lives and limits`: domains come and go, while they are introduced
 * and while they are not, most requests are in transactions, and quotas and features change.
 */
export type Theme = 'usual' | 'lives and limits';

type OperationWeight = readonly [number, OperationName | 'any number'];

const OPERATION_WEIGHTS: readonly OperationWeight[] = [
  [20, 'WRITE'],
  [10, 'READ'],
  [6, 'RM'],
  [7, 'MKDIR'],
  [7, 'DIRECTORY'],
  [7, 'SET_PERMS'],
  [4, 'GET_PERMS'],
  [8, 'WATCH'],
  [3, 'UNWATCH'],
  [7, 'START'],
  [9, 'END'],
  [2, 'DIRECTORY_PART'],
  [1, 'RESET_WATCHES'],
  [2, 'GET_DOMAIN_PATH'],
  [2, 'IS_DOMAIN_INTRODUCED'],
  [2, 'SET_TARGET'],
  [1, 'CONTROL'],
  [1, 'RESTRICT'],
  [1, 'any number'],
];

const LIVES_AND_LIMITS: readonly OperationWeight[] = [
  ...OPERATION_WEIGHTS,
  [3, 'RM'],
  [5, 'SET_PERMS'],
  [3, 'CONTROL'],
  [2, 'GET_FEATURE'],
  [1, 'SET_FEATURE'],
  [2, 'GET_QUOTA'],
  [2, 'SET_QUOTA'],
];

/** Bad arguments first. Of domain 5 to 7 some are introduced at any time, others exist, others do not. */
const NUMBERS_OF_DOMAINS = ['', '\0', '5\0', '6\0', '7\0', '9\0', '0\0'] as const;
const FEATURES = ['5\x000\0', '6\x006\0', '7\x002\0', '7\x0014\0', '7\x0016\0', '9\x001\0'] as const;
const QUOTA_NAMES = [
  '',
  '\0',
  'x\0',
  'nodes\0',
  '5\0nodes\0',
  '6\0transactions\0',
  '7\0watches\0',
  '9\0nodes\0',
] as const;
const QUOTAS = [
  '',
  'x\x001\0',
  'nodes\x006\0',
  'node-permissions\x002\0',
  '5\0nodes\x003\0',
  '6\0nodes\x009\0',
  '7\0nodes\x000\0',
  '5\0watches\x002\0',
  '6\0transactions\x001\0',
  '6\0transaction-nodes\x005\0',
  '5\0node-size\x00100\0',
] as const;
const CONTROLS = ['check\0', 'print\0x\0', 'nonsense\0', 'quota\0set\0nodes\0zero\0', 'help\0x\0'] as const;
const LIMITING_CONTROLS = [
  ...CONTROLS,
  'quota\0',
  'quota\0set\0nodes\x0012\0',
  'quota\0set\0nodes\x0040\0',
  'quota\0set\0transaction-nodes\x008\0',
  'quota\0set\0transaction-nodes\x0050\0',
  'quota\0set\0node-permissions\x003\0',
  'quota\0set\0watches\x004\0',
  'quota\0set\0transactions\x002\0',
  'quota\0set\0node-size\x00200\0',
  'quota\0set\0node-size\x002048\0',
  'quota\0set\0path-max\x0020\0',
  'quota\0set\0path-max\x002048\0',
] as const;

/** Operations after whose success the store cannot be known any more, and those that change no node. */
const WITHOUT_TRANSACTION: ReadonlySet<string> = new Set([
  'START',
  'WATCH',
  'UNWATCH',
  'RESET_WATCHES',
  'CONTROL',
]);

/**
 * One request. What C 4.17 answers with whatever `errno` holds (a path without its NUL, permissions of special names
 * that it refuses) is left to the fixed scripts: when it holds 0 that daemon aborts.
 */
export function generateRequest(
  random: Random,
  state: GeneratorState,
  on: string,
  theme: Theme = 'usual',
): RequestStep {
  const operation = random.weighted(theme === 'usual' ? OPERATION_WEIGHTS : LIVES_AND_LIMITS);
  if (operation === 'any number') {
    const op = random.pick([15, 16, 20, 23, 24, 25, 26, 27, 28, 255, 65_535]);
    return { kind: 'request', on, op, payload: random.pick(['', '\0', '/a\0', 'x']) };
  }
  const step = { kind: 'request', on, op: OPERATIONS[operation] } as const;
  const open = state.transactionsOf(on);
  if (operation === 'START') return start(random, state, on);
  if (operation === 'END') return end(random, state, on);
  const payload = payloadOf(random, state, on, operation, theme);
  if (operation === 'SET_PERMS' && payload.startsWith('@') && !on.startsWith('0')) {
    return { kind: 'request', on, op: OPERATIONS.GET_PERMS, payload: '/\0' };
  }
  const inside = theme === 'usual' ? 0.5 : 0.7;
  const isIn = open.length > 0 && random.chance(WITHOUT_TRANSACTION.has(operation) ? 0.1 : inside);
  const tx = isIn ? random.pick(open) : random.chance(0.01) ? '#77' : undefined;
  if (operation === 'RESET_WATCHES') state.forget(on);
  return tx === undefined ? { ...step, payload } : { ...step, payload, tx };
}

function start(random: Random, state: GeneratorState, on: string): RequestStep {
  const open = state.transactionsOf(on);
  if (open.length > 0 && random.chance(0.1)) {
    return { kind: 'request', on, op: OPERATIONS.START, payload: '\0', tx: random.pick(open) };
  }
  // Few at a time: they are meant to meet the others' changes, not the quota.
  if (open.length >= 3) return end(random, state, on);
  const names = state.newTransaction();
  open.push(names);
  return { kind: 'request', on, op: OPERATIONS.START, payload: '\0', names };
}

function end(random: Random, state: GeneratorState, on: string): RequestStep {
  const open = state.transactionsOf(on);
  const op = OPERATIONS.END;
  if (open.length === 0) return { kind: 'request', on, op, payload: 'T\0' };
  const tx = random.pick(open);
  if (random.chance(0.03))
    return { kind: 'request', on, op, payload: random.pick(['X\0', '\0', 'F', '']), tx };
  open.splice(open.indexOf(tx), 1);
  return { kind: 'request', on, op, payload: random.chance(0.8) ? 'T\0' : 'F\0', tx };
}

function payloadOf(
  random: Random,
  state: GeneratorState,
  on: string,
  operation: OperationName,
  theme: Theme,
): string {
  const path = pathOf(random, on);
  switch (operation) {
    case 'WRITE':
      return `${path}\0${valueOf(random)}`;
    case 'WATCH': {
      const token = random.pick(TOKENS);
      state.watchesOf(on).push([path, token]);
      return `${path}\0${token}\0${random.chance(0.03) ? '1\0' : ''}`;
    }
    case 'UNWATCH': {
      const known = state.watchesOf(on);
      const [watched, token] = known.length > 0 && random.chance(0.8) ? random.pick(known) : [path, 't'];
      return `${watched}\0${token}\0`;
    }
    case 'SET_PERMS':
      return setPermissions(random, path);
    case 'DIRECTORY_PART':
      return `${path}\0${random.pick(['0', '0', '2', '3', '4', '100', 'x'])}\0`;
    case 'GET_DOMAIN_PATH':
    case 'IS_DOMAIN_INTRODUCED':
    case 'RESTRICT':
      return `${random.pick(DOMIDS)}\0`;
    case 'SET_TARGET':
      return random.pick(TARGETS);
    case 'CONTROL':
      return random.pick<string>(theme === 'usual' ? CONTROLS : LIMITING_CONTROLS);
    case 'GET_FEATURE':
      return random.pick(NUMBERS_OF_DOMAINS);
    case 'SET_FEATURE':
      return random.pick(FEATURES);
    case 'GET_QUOTA':
      return random.pick(QUOTA_NAMES);
    case 'SET_QUOTA':
      return random.pick(QUOTAS);
    case 'RESET_WATCHES':
      return '\0';
    default:
      return `${path}\0`;
  }
}

/** The root and the special names stay with domain 0: the C daemons lose the whole store, or crash, with the owner. */
function setPermissions(random: Random, path: string): string {
  const target = path.startsWith('@') ? '@releaseDomain' : path;
  return `${target}\0${path === '/' || target.startsWith('@') ? 'n0\0' : ''}${permissionsOf(random)}`;
}

function pathOf(random: Random, on: string): string {
  if (random.chance(0.03)) return random.pick(ODD_PATHS);
  if (random.chance(0.005)) return `/${'n'.repeat(random.pick([2040, 2047, 2048, 3071, 3072]))}`;
  const depth = random.weighted([
    [2, 0],
    [6, 1],
    [5, 2],
    [2, 3],
  ]);
  const names = Array.from({ length: depth }, () => random.pick(NAMES)).join('/');
  if (random.chance(0.12)) return names === '' ? 'a' : names;
  const own = on.startsWith('0') ? '' : `/local/domain/${on}`;
  const home = own !== '' && random.chance(0.5) ? own : random.pick(HOMES);
  if (names === '') return home === '' ? '/' : home;
  return `${home}/${names}`;
}

function valueOf(random: Random): string {
  const kind = random.below(20);
  if (kind === 0) return 'v'.repeat(random.pick([1990, 2015, 2023, 2024, 2040, 2048, 2049, 3000]));
  if (kind < 4) return '';
  if (kind < 7)
    return String.fromCharCode(...Array.from({ length: 1 + random.below(8) }, () => random.below(256)));
  return String(random.below(3));
}

function permissionsOf(random: Random): string {
  if (random.chance(0.03)) return '';
  const count = random.weighted([
    [4, 1],
    [4, 2],
    [2, 3],
    [1, 5],
    [1, 7],
  ]);
  const entries = Array.from({ length: count }, () =>
    random.chance(0.02) ? random.pick(ODD_PERMISSIONS) : random.pick(PERMISSIONS),
  );
  return entries.map((entry) => `${entry}\0`).join('');
}
