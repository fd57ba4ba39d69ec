import { frame } from '../frame.ts';
import { operationNumber } from '../operations.ts';
import {
  type FixedCase,
  type FixedGroup,
  type Row,
  close,
  create,
  destroy,
  guest,
  introduce,
  pause,
  raw,
  resume,
  shutdown,
} from './fixed-case.ts';

/** Children whose names, 11 bytes each with the NUL, do not fit into one reply. */
const MANY: readonly Row[] = Array.from({ length: 600 }, (_, index): Row => {
  return ['0', 'WRITE', `$/many/child-${String(index).padStart(4, '0')}|`];
});

const header = (op: 'READ' | 'START' | 'RESET_WATCHES'): string =>
  frame(operationNumber(op), '', { reqId: 7 });

const STORE: readonly FixedCase[] = [
  {
    name: 'READ with zero-length payload',
    rows: [raw('0', header('READ'))],
    last: { head: '0> #7 !EINVAL', oxenstored: '' },
  },
  {
    name: 'READ without final NUL',
    rows: [['0', 'READ', '/tool']],
    last: { head: '0> !EINVAL', oxenstored: '0> !EINVAL' },
  },
  {
    name: 'READ with two NULs',
    rows: [['0', 'READ', '/tool||']],
    last: { head: '0> !EINVAL', oxenstored: '0> !EINVAL' },
  },
  { name: 'RELEASE 0', rows: [['0', 'RELEASE', '0|']], last: { c: '0> !EINVAL', oxenstored: '0> !ENOENT' } },
  { name: 'INTRODUCE after RELEASE 0', rows: [['0', 'RELEASE', '0|'], ...guest(5)] },
  {
    name: 'children of / at the start',
    rows: [['0', 'DIRECTORY', '/|']],
    last: { c: '0> = tool|', oxenstored: '0> = @introduceDomain|@releaseDomain|local|tool|' },
  },
  {
    name: 'RM /',
    rows: [
      ['0', 'RM', '/|'],
      ['0', 'DIRECTORY', '/|'],
    ],
    last: { c: '0> = tool|', oxenstored: '0> = ' },
  },
  {
    name: 'DIRECTORY of 600 children',
    rows: [...MANY, ['0', 'DIRECTORY', '$/many|']],
    last: {
      c: '0> !E2BIG',
      oxenstored:
        '0> = child-0000|child-0001|child-0002|child-0003|child-0004|child-0005|child-… (6600 bytes, 5d28fd3f)',
    },
  },
  {
    name: 'DIRECTORY_PART of 600 children',
    rows: [
      ...MANY,
      ['0', 'DIRECTORY_PART', '$/many|0|'],
      ['0', 'DIRECTORY_PART', '$/many|4059|'],
      ['0', 'DIRECTORY_PART', '$/many|6600|'],
    ],
    last: { c: '0> = <generation>||', oxenstored: '0> !ENOSYS' },
  },
];

const NODES: readonly FixedCase[] = [
  {
    name: 'TRANSACTION_START with zero-length payload',
    rows: [raw('0', header('START'))],
    last: { c: '0> #7 = 1|', oxenstored: '' },
  },
  {
    name: 'RESET_WATCHES with zero-length payload',
    rows: [raw('0', header('RESET_WATCHES'))],
    last: { c: '0> #7 OK', oxenstored: '' },
  },
  { name: 'WRITE @foo', rows: [['0', 'WRITE', '@foo|x']], last: { c: '0> !EINVAL', oxenstored: '0> OK' } },
  {
    name: 'READ @introduceDomain',
    rows: [['0', 'READ', '@introduceDomain|']],
    last: { c: '0> !EINVAL', oxenstored: '0> = ' },
  },
  {
    name: 'GET_PERMS @releaseDomain',
    rows: [['0', 'GET_PERMS', '@releaseDomain|']],
    last: { c: '0> !EINVAL', head: '0> = n0|r32757|', oxenstored: '0> = n0|' },
  },
  {
    name: 'RM of a missing leaf whose parent exists',
    rows: [
      ['0', 'WRITE', '$/a|'],
      ['0', 'RM', '$/a/b|'],
    ],
    last: '0> OK',
  },
  {
    name: 'RM of a missing leaf whose parent is missing',
    rows: [['0', 'RM', '$/x/y|']],
    last: '0> !ENOENT',
  },
  {
    name: 'order of DIRECTORY',
    rows: [
      ['0', 'WRITE', '$/z|'],
      ['0', 'WRITE', '$/a|'],
      ['0', 'WRITE', '$/m|'],
      ['0', 'DIRECTORY', '$|'],
    ],
    last: { c: '0> = z|a|m|', oxenstored: '0> = a|m|z|' },
  },
  {
    name: 'SET_PERMS to an owner that does not exist',
    rows: [
      ['0', 'WRITE', '$/a|'],
      ['0', 'SET_PERMS', '$/a|n78|'],
    ],
    last: { c: '0> !ENOENT', oxenstored: '0> OK' },
  },
  {
    name: 'value of 2100 bytes from domain 0',
    rows: [['0', 'WRITE', `$/a|${'v'.repeat(2100)}`]],
    last: { c: '0> OK', oxenstored: '0> !E2BIG' },
  },
  {
    name: 'payload of 4097 bytes',
    rows: [raw('0', frame(operationNumber('WRITE'), 'x'.repeat(4097), { reqId: 7 }))],
    last: { c: '0> (connection ended)', oxenstored: '0> #7 !EINVAL' },
  },
  { name: 'READ of a missing node', rows: [['0', 'READ', '$/none|']], last: '0> !ENOENT' },
  {
    name: 'MKDIR of an existing node keeps its value',
    rows: [
      ['0', 'WRITE', '$/a|v'],
      ['0', 'MKDIR', '$/a|'],
      ['0', 'READ', '$/a|'],
    ],
    last: '0> = v',
  },
];

const WATCHES: readonly FixedCase[] = [
  {
    name: 'WATCH with a depth',
    rows: [['0', 'WATCH', '$/a|t|1|']],
    last: { c: '0> !EINVAL', head: '0> OK ; 0> event $/a|t|' },
  },
  {
    name: 'order of several watches of one connection',
    rows: [
      ['0', 'WATCH', '$/a|one|'],
      ['0', 'WATCH', '$/a|two|'],
      ['0b', 'WRITE', '$/a|'],
    ],
    last: {
      c: '0b> OK ; 0> event $/a|one| ; 0> event $/a|two|',
      oxenstored: '0b> OK ; 0> event $/a|two| ; 0> event $/a|one|',
    },
  },
  {
    name: 'RM of a tree with watches on child and root',
    rows: [
      ['0', 'WRITE', '$/a/b|'],
      ['0', 'WATCH', '$/a|root|'],
      ['0', 'WATCH', '$/a/b|child|'],
      ['0b', 'RM', '$/a|'],
    ],
    last: {
      c: '0b> OK ; 0> event $/a/b|child| ; 0> event $/a|root|',
      oxenstored: '0b> OK ; 0> event $/a|root| ; 0> event $/a/b|child|',
    },
  },
  {
    name: 'event of an own write, and its reply',
    rows: [
      ['0', 'WATCH', '$/a|t|'],
      ['0', 'WRITE', '$/a|'],
    ],
    last: { c: '0> event $/a|t| ; 0> OK', oxenstored: '0> OK ; 0> event $/a|t|' },
  },
  {
    name: 'WATCH with a transaction id',
    rows: [['0/#5', 'WATCH', '$/a|t|']],
    last: { c: '0> OK ; 0> event $/a|t|', oxenstored: '0> OK [transaction 0] ; 0> event $/a|t|' },
  },
  {
    name: 'the same watch twice',
    rows: [
      ['0', 'WATCH', '$/a|t|'],
      ['0', 'WATCH', '$/a|t|'],
    ],
    last: '0> !EEXIST',
  },
  { name: 'UNWATCH of what is not watched', rows: [['0', 'UNWATCH', '$/a|t|']], last: '0> !ENOENT' },
  {
    name: '40 writes while the watcher’s ring is not read',
    rows: [
      ...guest(5),
      ['0', 'WRITE', '$/a|'],
      ['0', 'SET_PERMS', '$/a|n0|r5|'],
      ['5', 'WATCH', `$/a|${'t'.repeat(100)}|`],
      pause('5'),
      ...Array.from({ length: 40 }, (): Row => ['0', 'WRITE', '$/a|']),
      resume('5'),
    ],
  },
];

const TRANSACTIONS: readonly FixedCase[] = [
  {
    name: 'unknown transaction id',
    rows: [['0/#99', 'READ', '/tool|']],
    last: { c: '0> !ENOENT', oxenstored: '0> !EIO' },
  },
  {
    name: 'TRANSACTION_END T without NUL',
    rows: [
      ['0', 'START=t', '|'],
      ['0/t', 'END', 'T'],
    ],
    last: { c: '0> !EINVAL', oxenstored: '0> OK' },
  },
  {
    name: 'first read in a transaction after a write outside',
    rows: [
      ['0', 'WRITE', '$/a|old'],
      ['0', 'START=t', '|'],
      ['0b', 'WRITE', '$/a|new'],
      ['0/t', 'READ', '$/a|'],
    ],
    last: { c: '0> = new', oxenstored: '0> = old' },
  },
  {
    name: 'read-only transaction whose node changed',
    rows: [
      ['0', 'WRITE', '$/a|old'],
      ['0', 'START=t', '|'],
      ['0/t', 'READ', '$/a|'],
      ['0b', 'WRITE', '$/a|new'],
      ['0/t', 'END', 'T|'],
    ],
    last: { c: '0> !EAGAIN', oxenstored: '0> OK' },
  },
  {
    name: 'both write the same node',
    rows: [
      ['0', 'WRITE', '$/a|old'],
      ['0', 'START=t', '|'],
      ['0/t', 'WRITE', '$/a|inside'],
      ['0b', 'WRITE', '$/a|outside'],
      ['0/t', 'END', 'T|'],
    ],
    last: { c: '0> !EAGAIN', oxenstored: '0> OK' },
  },
  {
    name: 'two transactions create siblings',
    rows: [
      ['0', 'WRITE', '$/a|'],
      ['0', 'START=t', '|'],
      ['0b', 'START=u', '|'],
      ['0/t', 'WRITE', '$/a/x|'],
      ['0b/u', 'WRITE', '$/a/y|'],
      ['0/t', 'END', 'T|'],
      ['0b/u', 'END', 'T|'],
    ],
    last: { c: '0b> !EAGAIN', oxenstored: '0b> OK' },
  },
  {
    name: 'missing node read, then created outside',
    rows: [
      ['0', 'WRITE', '$/a|'],
      ['0', 'START=t', '|'],
      ['0/t', 'READ', '$/a/x|'],
      ['0b', 'WRITE', '$/a/x|'],
      ['0/t', 'END', 'T|'],
    ],
    last: { c: '0> !EAGAIN', oxenstored: '0> OK' },
  },
  {
    name: 'DIRECTORY, then a child added outside',
    rows: [
      ['0', 'WRITE', '$/a|'],
      ['0', 'START=t', '|'],
      ['0/t', 'DIRECTORY', '$/a|'],
      ['0b', 'WRITE', '$/a/x|'],
      ['0/t', 'END', 'T|'],
    ],
    last: { c: '0> !EAGAIN', oxenstored: '0> OK' },
  },
  {
    name: 'DIRECTORY, then the value of a child changed',
    rows: [
      ['0', 'WRITE', '$/a/x|'],
      ['0', 'START=t', '|'],
      ['0/t', 'DIRECTORY', '$/a|'],
      ['0b', 'WRITE', '$/a/x|1'],
      ['0/t', 'END', 'T|'],
    ],
    last: '0> OK',
  },
  {
    name: 'events of a transaction that writes a, b, a and removes c',
    rows: [
      ['0', 'WRITE', '$/c|'],
      ['0b', 'WATCH', '$|t|'],
      ['0', 'START=t', '|'],
      ['0/t', 'WRITE', '$/a|1'],
      ['0/t', 'WRITE', '$/b|1'],
      ['0/t', 'WRITE', '$/a|2'],
      ['0/t', 'RM', '$/c|'],
      ['0/t', 'END', 'T|'],
    ],
    last: {
      c: '0> OK ; 0b> event $/a|t| ; 0b> event $/b|t| ; 0b> event $/c|t|',
      oxenstored: '0> OK ; 0b> event $/a|t| ; 0b> event $/b|t| ; 0b> event $/a|t| ; 0b> event $/c|t|',
    },
  },
  {
    name: 'nested transaction',
    rows: [
      ['0', 'START=t', '|'],
      ['0/t', 'START', '|'],
    ],
    last: '0> !EBUSY',
  },
  {
    name: 'read, changed outside, own write elsewhere',
    rows: [
      ['0', 'WRITE', '$/a|'],
      ['0', 'START=t', '|'],
      ['0/t', 'READ', '$/a|'],
      ['0/t', 'WRITE', '$/b|'],
      ['0b', 'WRITE', '$/a|1'],
      ['0/t', 'END', 'T|'],
    ],
    last: '0> !EAGAIN',
  },
];

const DOMAINS: readonly FixedCase[] = [
  {
    name: 'GET_DOMAIN_PATH abc',
    rows: [['0', 'GET_DOMAIN_PATH', 'abc|']],
    last: { c: '0> = /local/domain/0|', head: '0> !EINVAL' },
  },
  { name: 'GET_DOMAIN_PATH 007', rows: [['0', 'GET_DOMAIN_PATH', '007|']], last: '0> = /local/domain/7|' },
  {
    name: 'RELEASE of an unknown domain',
    rows: [['0', 'RELEASE', '77|']],
    last: { c: '0> !ENOENT', oxenstored: '0> !EINVAL' },
  },
  {
    name: 'CONTROL with an unknown command',
    rows: [['0', 'CONTROL', 'nonsense|']],
    last: { c: '0> !EINVAL', oxenstored: '0> OK' },
  },
  { name: 'GET_FEATURE', rows: [['0', 'GET_FEATURE', '|']], last: { c: '0> !ENOSYS', head: '0> = 14|' } },
  {
    name: 'GET_QUOTA nodes',
    rows: [['0', 'GET_QUOTA', 'nodes|']],
    last: { c: '0> !ENOSYS', head: '0> = 1000|' },
  },
  {
    name: 'RELEASE deletes the nodes of the guest',
    rows: [
      ...guest(20),
      ['0', 'WRITE', '$/of20|'],
      ['0', 'SET_PERMS', '$/of20|n20|'],
      ['20', 'WRITE', '$/of20/child|'],
      ['0', 'RELEASE', '20|'],
      ['0', 'DIRECTORY', '$|'],
    ],
    last: '0> = ',
  },
  {
    name: '@introduceDomain and @releaseDomain',
    rows: [
      ['0b', 'WATCH', '@introduceDomain|in|'],
      ['0b', 'WATCH', '@releaseDomain|out|'],
      ...guest(21),
      introduce(21),
      shutdown(21),
      shutdown(21),
      ['0', 'RESUME', '21|'],
      shutdown(21),
      destroy(21),
    ],
    last: '0b> event @releaseDomain|out|',
  },
];

const GUESTS: readonly FixedCase[] = [
  {
    name: 'guest: missing node below an unreadable parent',
    rows: [
      ['0', 'WRITE', '$/p|'],
      ['5', 'READ', '$/p/none|'],
    ],
    last: { c: '5> !EACCES', oxenstored: '5> !ENOENT' },
  },
  {
    name: 'guest: permissions of a child below a parent of domain 0 that it may write',
    rows: [
      ['0', 'WRITE', '$/p|'],
      ['0', 'SET_PERMS', '$/p|n0|b5|'],
      ['5', 'WRITE', '$/p/c|'],
      ['0', 'GET_PERMS', '$/p/c|'],
    ],
    last: { c: '0> = n5|b5|', oxenstored: '0> = n0|b5|' },
  },
  {
    name: 'guest: gives its node away',
    rows: [
      ['0', 'WRITE', '$/p|'],
      ['0', 'SET_PERMS', '$/p|n5|'],
      ['5', 'SET_PERMS', '$/p|n6|'],
    ],
    last: { c: '5> !EPERM', oxenstored: '5> !EACCES' },
  },
  {
    name: 'guest: CONTROL',
    rows: [['5', 'CONTROL', 'check|']],
    last: { c: '5> !EACCES', oxenstored: '5> OK' },
  },
  {
    name: 'guest: reads below a parent it may not read',
    rows: [
      ['0', 'WRITE', '$/p/c|v'],
      ['0', 'SET_PERMS', '$/p/c|n0|r5|'],
      ['5', 'READ', '$/p/c|'],
    ],
    last: '5> = v',
  },
  {
    name: 'guest: disconnected domain is gone for the ring',
    rows: [...guest(22), close('0'), destroy(22), create(22), introduce(22), ['22', 'READ', '/tool|']],
  },
];

/** The rows of the table in which the real daemons were seen to differ, and the rows in which they agreed. */
export const GOLDEN_GROUPS: readonly FixedGroup[] = [
  { name: 'the store as a whole', isolated: true, cases: STORE },
  { name: 'nodes', cases: NODES },
  { name: 'watches', cases: WATCHES },
  { name: 'transactions', cases: TRANSACTIONS },
  { name: 'domains and control', before: guest(5), cases: DOMAINS },
  { name: 'guests', before: [...guest(5), ...guest(6)], cases: GUESTS },
];
