import { OPERATIONS, type OperationName, type OperationText } from '../operations.ts';
import { type FixedCase, type FixedGroup, type Row, guest } from './fixed-case.ts';

/** Every operation with arguments that are wrong in every way, each as one request from domain 0. */
const PATHS: readonly (readonly [name: string, payload: string])[] = [
  ['empty payload', ''],
  ['only a NUL', '|'],
  ['no NUL', '$/p'],
  ['two NULs', '$/p||'],
  ['a second string', '$/p|x|'],
  ['root', '/|'],
  ['missing', '$/p/none|'],
  ['missing parent', '$/none/none|'],
  ['trailing slash', '$/p/|'],
  ['double slash', '$//p|'],
  ['space', '$/p p|'],
  ['dot', '$/p.p|'],
  ['colon', '$/p:p|'],
  ['plus', '$/p+|'],
  ['UTF-8', '$/p\xc3\xa4|'],
  ['control character', '$/p\x07|'],
  ['at sign inside', '$/@x|'],
  ['leading at sign', '@x|'],
  ['@introduceDomain', '@introduceDomain|'],
  ['@releaseDomain', '@releaseDomain|'],
  ['relative', 'probe/rel|'],
  ['relative with dots', '../p|'],
  ['existing', '$/p|'],
];

const NUMBERS: readonly (readonly [name: string, payload: string])[] = [
  ['empty payload', ''],
  ['only a NUL', '|'],
  ['no NUL', '7'],
  ['two NULs', '7||'],
  ['text', 'abc|'],
  ['leading zeros', '007|'],
  ['leading space', ' 7|'],
  ['plus sign', '+7|'],
  ['hexadecimal', '0x7|'],
  ['trailing text', '7x|'],
  ['zero', '0|'],
  ['minus one', '-1|'],
  ['DOMID_SELF', '32752|'],
  ['65535', '65535|'],
  ['65536', '65536|'],
  ['beyond 32 bits', '4294967303|'],
  ['unknown domain', '77|'],
];

const PATH_OPERATIONS = ['DIRECTORY', 'READ', 'GET_PERMS', 'MKDIR', 'RM'] as const;
const NUMBER_OPERATIONS = ['GET_DOMAIN_PATH', 'IS_DOMAIN_INTRODUCED', 'RESUME', 'RELEASE'] as const;

const OTHERS: readonly (readonly [operation: OperationText, name: string, payload: string])[] = [
  ...PATHS.map(([name, path]) => ['WRITE', name, path.endsWith('|') ? `${path}v` : path] as const),
  ['WRITE', 'value with NULs', '$/w|a|b||c|'],
  ['WRITE', 'empty value', '$/w|'],
  ['WRITE', 'all byte values', `$/w|${String.fromCharCode(...Array.from({ length: 256 }, (_, i) => i))}`],
  ...PATHS.map(([name, path]) => ['WATCH', name, path.endsWith('|') ? `${path}token|` : path] as const),
  ['WATCH', 'no token', '$/p|'],
  ['WATCH', 'empty token', '$/p||'],
  ['WATCH', 'token with spaces and bytes', '$/p|a b\x80\xff:|'],
  ['WATCH', 'empty third string', '$/p|t||'],
  ['WATCH', 'token without NUL', '$/p|t'],
  ['WATCH', 'depth that is no number', '$/p|t|x|'],
  ['WATCH', 'negative depth', '$/p|t|-1|'],
  ['WATCH', 'depth and a fourth string', '$/p|t|1|x|'],
  ['UNWATCH', 'empty payload', ''],
  ['UNWATCH', 'no token', '$/p|'],
  ['UNWATCH', 'not watched', '$/p|t|'],
  ['UNWATCH', 'bad path', '$/p/|t|'],
  ['UNWATCH', 'third string', '$/p|t|x|'],
  ['START', 'empty payload', ''],
  ['START', 'a NUL', '|'],
  ['START', 'text', 'x|'],
  ['END', 'without a transaction', 'T|'],
  ['END', 'without a transaction, F', 'F|'],
  ['END', 'wrong letter without a transaction', 'X|'],
  ['END', 'empty payload', ''],
  ['SET_PERMS', 'empty payload', ''],
  ['SET_PERMS', 'no entry', '$/p|'],
  ['SET_PERMS', 'empty entry', '$/p||'],
  ['SET_PERMS', 'upper case', '$/p|R0|'],
  ['SET_PERMS', 'no number', '$/p|r|'],
  ['SET_PERMS', 'no letter', '$/p|0|'],
  ['SET_PERMS', 'unknown letter', '$/p|x0|'],
  ['SET_PERMS', 'trailing text', '$/p|n0x|'],
  ['SET_PERMS', 'negative', '$/p|n0|r-1|'],
  ['SET_PERMS', 'large number', '$/p|n0|r99999|'],
  ['SET_PERMS', 'without NUL at the end', '$/p|n0'],
  ['SET_PERMS', 'missing node', '$/none|n0|'],
  ['SET_PERMS', 'owner that does not exist', '$/p|n78|'],
  ['SET_PERMS', 'same domain twice', '$/p|n0|r7|w7|'],
  ['SET_PERMS', 'root', '/|n0|'],
  ['SET_PERMS', '@releaseDomain', '@releaseDomain|n0|'],
  ['SET_PERMS', 'unknown special name', '@x|n0|'],
  ['INTRODUCE', 'empty payload', ''],
  ['INTRODUCE', 'one string', '77|'],
  ['INTRODUCE', 'two strings', '77|1|'],
  ['INTRODUCE', 'port 0', '77|1|0|'],
  ['INTRODUCE', 'negative port', '77|1|-1|'],
  ['INTRODUCE', 'text', 'a|b|c|'],
  ['INTRODUCE', 'domain that does not exist', '77|1|1|'],
  ['INTRODUCE', 'domain 70000', '70000|1|1|'],
  ['SET_TARGET', 'empty payload', ''],
  ['SET_TARGET', 'one string', '6|'],
  ['SET_TARGET', 'unknown domain', '77|6|'],
  ['SET_TARGET', 'unknown target', '6|77|'],
  ['SET_TARGET', 'text', 'a|b|'],
  ['SET_TARGET', 'itself', '6|6|'],
  ['DIRECTORY_PART', 'empty payload', ''],
  ['DIRECTORY_PART', 'no offset', '$/p|'],
  ['DIRECTORY_PART', 'from the start', '$/p|0|'],
  ['DIRECTORY_PART', 'past the end', '$/p|99|'],
  ['DIRECTORY_PART', 'inside a name', '$/p|2|'],
  ['DIRECTORY_PART', 'offset that is no number', '$/p|x|'],
  ['DIRECTORY_PART', 'negative offset', '$/p|-1|'],
  ['DIRECTORY_PART', 'third string', '$/p|0|x|'],
  ['DIRECTORY_PART', 'missing node', '$/none|0|'],
  ['CONTROL', 'empty payload', ''],
  ['CONTROL', 'only a NUL', '|'],
  ['CONTROL', 'unknown command', 'nonsense|'],
  ['CONTROL', 'check', 'check|'],
  ['CONTROL', 'check with a parameter', 'check|x|'],
  ['CONTROL', 'print', 'print|text|'],
  ['CONTROL', 'print without text', 'print|'],
  ['CONTROL', 'help', 'help|'],
  ['CONTROL', 'quota', 'quota|'],
  ['CONTROL', 'quota of a domain', 'quota|6|'],
  ['CONTROL', 'quota of an unknown domain', 'quota|77|'],
  ['CONTROL', 'quota set without a value', 'quota|set|nodes|'],
  ['CONTROL', 'quota set of an unknown name', 'quota|set|nonsense|5|'],
  ['CONTROL', 'quota set to nothing', 'quota|set|nodes|0|'],
  ['CONTROL', 'quota-soft', 'quota-soft|'],
  ['CONTROL', 'log without a parameter', 'log|'],
  ['CONTROL', 'log with nonsense', 'log|x|'],
  ['CONTROL', 'logfile without a parameter', 'logfile|'],
  ['CONTROL', 'live-update without parameters', 'live-update|'],
  ['RESET_WATCHES', 'empty payload', ''],
  ['RESET_WATCHES', 'a NUL', '|'],
  ['RESET_WATCHES', 'text', 'x|'],
  ['RESTRICT', 'a domain', '5|'],
  ['WATCH_EVENT', 'as a request', '$/p|t|'],
  ['ERROR', 'as a request', 'ENOENT|'],
  ['GET_FEATURE', 'empty payload', ''],
  ['GET_FEATURE', 'a NUL', '|'],
  ['GET_FEATURE', 'a domain', '6|'],
  ['GET_FEATURE', 'unknown domain', '77|'],
  ['GET_FEATURE', 'two strings', '6|6|'],
  ['SET_FEATURE', 'introduced domain', '6|1|'],
  ['SET_FEATURE', 'unknown domain', '77|1|'],
  ['SET_FEATURE', 'unknown bit', '6|4096|'],
  ['SET_FEATURE', 'one string', '6|'],
  ['GET_QUOTA', 'empty payload', ''],
  ['GET_QUOTA', 'a NUL', '|'],
  ['GET_QUOTA', 'nodes', 'nodes|'],
  ['GET_QUOTA', 'unknown name', 'nonsense|'],
  ['GET_QUOTA', 'of a domain', '6|nodes|'],
  ['GET_QUOTA', 'of an unknown domain', '77|nodes|'],
  ['GET_QUOTA', 'three strings', '6|nodes|x|'],
  ['SET_QUOTA', 'unknown name', 'nonsense|5|'],
  ['SET_QUOTA', 'one string', 'nodes|'],
  ['SET_QUOTA', 'no number', 'nodes|x|'],
  ['SET_QUOTA', 'of an unknown domain', '77|nodes|5|'],
  ['#27', 'number after the last', '|'],
  ['#28', 'next number', '|'],
  ['#65535', 'XS_INVALID', '|'],
  ['#65536', 'beyond 16 bits', '|'],
  ['#4294967295', 'largest number', '|'],
];

const PROBES: readonly (readonly [operation: OperationText, name: string, payload: string])[] = [
  ...PATH_OPERATIONS.flatMap((op) => PATHS.map(([name, payload]) => [op, name, payload] as const)),
  ...NUMBER_OPERATIONS.flatMap((op) => NUMBERS.map(([name, payload]) => [op, name, payload] as const)),
  ...OTHERS,
];

/** oxenstored really empties its store, or forgets domain 0; these are cases on their own. */
const isDestructive = (op: OperationText, name: string): boolean =>
  (op === 'RM' && name === 'root') || (op === 'RELEASE' && name === 'zero');

function probe(who: string, op: OperationText, name: string, payload: string): FixedCase {
  const rows: Row[] = [
    ['0', 'WRITE', '$/p/child|1'],
    ['0', 'SET_PERMS', '$/p|n0|b6|'],
    [who, op, payload],
    ['0b', 'DIRECTORY', '$|'],
  ];
  if (who !== '0') rows.push([who, 'RESET_WATCHES', '|']);
  return { name: `${op}: ${name}`, rows };
}

/** Everything from domain 0, and every operation with a bad transaction id. */
export const DOM0_PROBES: FixedGroup = {
  name: 'bad arguments, domain 0',
  before: guest(6),
  cases: PROBES.filter(([op, name]) => !isDestructive(op, name)).map(([op, name, payload]) =>
    probe('0', op, name, payload),
  ),
};

/** Everything from a guest that may read and write one node of the case. */
export const GUEST_PROBES: FixedGroup = {
  name: 'bad arguments, guest',
  before: guest(6),
  cases: PROBES.map(([op, name, payload]) => probe('6', op, name, payload)),
};

/** A valid request of every operation in a transaction that does not exist. */
export const TRANSACTION_PROBES: FixedGroup = {
  name: 'operations in an unknown transaction',
  before: guest(6),
  cases: (Object.keys(OPERATIONS) as OperationName[]).flatMap((op) =>
    ['0', '6'].map((who): FixedCase => ({
      name: `${op} from domain ${who}`,
      rows: [
        ['0', 'WRITE', '$/p|1'],
        [`${who}/#99`, op, validPayload(op)],
      ],
    })),
  ),
};

function validPayload(op: OperationName): string {
  switch (op) {
    case 'CONTROL':
      return 'check|';
    case 'WATCH':
    case 'UNWATCH':
      return '$/p|t|';
    case 'START':
    case 'RESET_WATCHES':
    case 'GET_FEATURE':
    case 'GET_QUOTA':
      return '|';
    case 'END':
      return 'T|';
    case 'INTRODUCE':
      return '77|1|1|';
    case 'RELEASE':
    case 'RESUME':
    case 'GET_DOMAIN_PATH':
    case 'IS_DOMAIN_INTRODUCED':
      return '77|';
    case 'SET_TARGET':
      return '77|77|';
    case 'WRITE':
      return '$/p|2';
    case 'SET_PERMS':
      return '$/p|n0|';
    case 'DIRECTORY_PART':
      return '$/p|0|';
    default:
      return '$/p|';
  }
}
