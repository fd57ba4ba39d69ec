import {
  type FixedCase,
  type FixedGroup,
  type Row,
  close,
  create,
  destroy,
  guest,
  introduce,
  raw,
} from './fixed-case.ts';

const THREE: readonly Row[] = ['w', 'x', 'y'].map((name): Row => ['0', 'WRITE', `$/b/${name}|`]);

/** A transaction that saw a parent and not, or no longer, its child. */
const CHILDREN: readonly FixedCase[] = [
  {
    name: 'a child that was removed outside is created again',
    rows: [
      ['0', 'WRITE', '$/b|'],
      ['0', 'START=t', '|'],
      ['0/t', 'RM', '$/c|'],
      ['0b', 'RM', '$/b|'],
      ['0/t', 'MKDIR', '$/b/c/c|'],
      ['0/t', 'DIRECTORY', '$|'],
    ],
    last: { c: '0> = b|b|', oxenstored: '0> = b|' },
  },
  {
    name: 'names that are there twice, one by one',
    rows: [
      ['0', 'WRITE', '$/b|'],
      ['0', 'WRITE', '$/c|'],
      ['0', 'START=t', '|'],
      ['0/t', 'DIRECTORY', '$|'],
      ['0b', 'RM', '$/b|'],
      ['0/t', 'MKDIR', '$/b/x|'],
      ['0/t', 'DIRECTORY_PART', '$|2|'],
      ['0/t', 'RM', '$/b|'],
      ['0/t', 'DIRECTORY', '$|'],
      ['0/t', 'MKDIR', '$/b|'],
      ['0/t', 'DIRECTORY', '$|'],
      ['0/t', 'RM', '$|'],
      ['0/t', 'DIRECTORY', '$|'],
      ['0/t', 'READ', '$/c|'],
      ['0/t', 'END', 'T|'],
    ],
    last: '0> !EAGAIN',
  },
  {
    name: 'a removal that stops at a child that was removed outside',
    rows: [
      ...THREE,
      ['0', 'START=t', '|'],
      ['0/t', 'DIRECTORY', '$/b|'],
      ['0b', 'RM', '$/b/x|'],
      ['0/t', 'RM', '$/b|'],
      ['0/t', 'READ', '$/b/w|'],
      ['0/t', 'DIRECTORY', '$|'],
      ['0/t', 'DIRECTORY', '$/b|'],
    ],
    last: { c: '0> = x|y|', oxenstored: '0> !ENOENT' },
  },
];

/** A transaction that captured a node while its owner lived. */
const OWNERS: readonly FixedCase[] = [
  {
    name: 'creates below a node whose owner died since',
    rows: [
      ...guest(5),
      ['0', 'MKDIR', '$|'],
      ['0', 'SET_PERMS', '$|n5|'],
      ['0', 'START=t', '|'],
      ['0/t', 'DIRECTORY', '$|'],
      destroy(5),
      ['0/t', 'WRITE', '$/c/a|1'],
      ['0/t', 'READ', '$/c/a|'],
      ['0/t', 'READ', '$/c|'],
      ['0/t', 'DIRECTORY', '$|'],
      ['0/t', 'WRITE', '$/c/a|1'],
    ],
    last: { c: '0> OK', head: '0> !ENOMEM' },
  },
  {
    name: 'writes, gives away and removes nodes whose owner died since',
    rows: [
      ...guest(5),
      ['0', 'WRITE', '$/a/k|'],
      ['0', 'SET_PERMS', '$/a|n5|'],
      ['0', 'START=t', '|'],
      ['0/t', 'READ', '$/a/k|'],
      ['0/t', 'READ', '$/a|'],
      destroy(5),
      ['0/t', 'SET_PERMS', '$/a|n0|'],
      ['0/t', 'WRITE', '$/a/k|2'],
      ['0/t', 'GET_PERMS', '$/a|'],
    ],
    last: { c: '0> = n0|', head: '0> = n5|' },
  },
  {
    name: 'removes a node whose owner died since',
    rows: [
      ...guest(5),
      ['0', 'WRITE', '$/a/k|'],
      ['0', 'SET_PERMS', '$/a|n5|'],
      ['0', 'START=t', '|'],
      ['0/t', 'READ', '$/a/k|'],
      ['0/t', 'READ', '$/a|'],
      destroy(5),
      ['0/t', 'RM', '$/a|'],
      ['0/t', 'READ', '$/a/k|'],
      ['0/t', 'DIRECTORY', '$|'],
      ['0/t', 'DIRECTORY', '$/a|'],
      ['0/t', 'END', 'T|'],
    ],
    last: { c: '0> !ENOMEM', head: '0> !EAGAIN', oxenstored: '0> !EAGAIN' },
  },
  {
    name: 'a guest creates below a node whose owner died since',
    rows: [
      ...guest(5),
      ...guest(6),
      ['0', 'WRITE', '$/a/k|'],
      ['0', 'SET_PERMS', '$/a|n5|b6|'],
      ['6', 'START=t', '|'],
      ['6/t', 'READ', '$/a|'],
      destroy(5),
      ['6/t', 'MKDIR', '$/a/z/y|'],
      ['6/t', 'SET_PERMS', '$/a/z|n6|b5|'],
      ['6/t', 'GET_PERMS', '$/a/z|'],
    ],
    last: { c: '6> = n6|b5|', oxenstored: '6> = n5|b6|' },
  },
];

const gives = (...rows: FixedCase['rows']): FixedCase['rows'] => [
  ...guest(5),
  ['0', 'WRITE', '$/a/k|'],
  ['0b', 'WATCH', '$|w|'],
  ['0', 'START=t', '|'],
  ['0/t', 'SET_PERMS', '$/a|n5|'],
  ...rows,
  ['0', 'GET_PERMS', '$/a|'],
  ['0', 'DIRECTORY', '$|'],
  ['0', 'READ', '$/a/k|'],
  ['0', 'DIRECTORY', '$/a|'],
];

/** A transaction gives a node to a domain that dies before it commits. */
const GIFTS: readonly FixedCase[] = [
  { name: 'commits', rows: gives(destroy(5), ['0/t', 'END', 'T|']), last: '0> = k|' },
  {
    name: 'commits nodes that it created below',
    rows: gives(
      ['0/t', 'WRITE', '$/a/b|1'],
      destroy(5),
      ['0/t', 'WRITE', '$/a/c|1'],
      ['0/t', 'READ', '$/a/c|'],
      ['0/t', 'END', 'T|'],
      ['0', 'READ', '$/a/b|'],
    ),
    last: { c: '0> = k|', oxenstored: '0> = b|c|k|' },
  },
  {
    name: 'commits when the domain exists again',
    rows: gives(['0/t', 'WRITE', '$/a/b|1'], destroy(5), create(5), ['0/t', 'END', 'T|']),
    last: { c: '0> = k|b|', head: '0> = k|', oxenstored: '0> = b|k|' },
  },
  {
    name: 'commits nodes that the daemon owns, below one of a domain that died',
    rows: gives(
      ['0/t', 'WRITE', '$/a/b/c|1'],
      ['0/t', 'SET_PERMS', '$/a/b|n0|'],
      destroy(5),
      ['0/t', 'END', 'T|'],
      ['0', 'READ', '$/a/b|'],
      ['0', 'READ', '$/a/b/c|'],
    ),
    last: { c: '0> = k|', oxenstored: '0> = b|k|' },
  },
  {
    name: 'commits a removal that failed',
    rows: gives(destroy(5), ['0/t', 'RM', '$/a|'], ['0/t', 'DIRECTORY', '$/a|'], ['0/t', 'END', 'T|']),
    last: { c: '0> = k|', head: '0> !ENOENT', oxenstored: '0> !ENOENT' },
  },
  {
    name: 'takes the node back in vain',
    rows: gives(
      destroy(5),
      ['0/t', 'SET_PERMS', '$/a|n0|'],
      ['0/t', 'WRITE', '$/a|1'],
      ['0/t', 'END', 'T|'],
      ['0', 'READ', '$/a|'],
    ),
    last: { c: '0> = k|' },
  },
];

const watched = (...rows: FixedCase['rows']): FixedCase['rows'] => [
  ['0', 'WATCH', '@releaseDomain|out|'],
  ...rows,
  ['0', 'RELEASE', '5|'],
];
const BEFORE = '0> event @releaseDomain|out| ; 0> OK';
const AFTER = '0> OK ; 0> event @releaseDomain|out|';

/** The daemon's loop holds the connection after the one it serves, so a domain released then goes after the reply. */
const RELEASES: readonly FixedCase[] = [
  { name: 'of the next connection', rows: watched(...guest(5)), last: { c: AFTER, oxenstored: BEFORE } },
  {
    name: 'of another connection',
    rows: watched(['0b', 'READ', '/|'], ...guest(5)),
    last: BEFORE,
  },
  {
    name: 'of the next connection, since another one is closed',
    rows: watched(['0b', 'READ', '/|'], ...guest(5), close('0b')),
    last: { c: AFTER, oxenstored: BEFORE },
  },
  {
    name: 'of the next connection, introduced again after others',
    rows: watched(...guest(5), ...guest(6), introduce(5)),
    last: { c: AFTER, oxenstored: BEFORE },
  },
  {
    name: 'of another connection, the next being ignored',
    rows: watched(...guest(6), ...guest(5), raw('6', '\xff'.repeat(16))),
    last: BEFORE,
  },
];

/** What newer daemons remember, and tell. */
const FIGURES: readonly FixedCase[] = [
  {
    name: 'SET_FEATURE after RELEASE is what the next ring says',
    rows: [...guest(5), ['0', 'RELEASE', '5|'], ['0', 'SET_FEATURE', '5|0|'], introduce(5)],
    last: { head: '0> OK ; 5> features 0, error 0' },
  },
  {
    name: 'nodes at the end of a transaction in which a removal failed',
    rows: [
      ...guest(5),
      ['0', 'MKDIR', '$|'],
      ['0', 'SET_PERMS', '$|n5|'],
      ['5', 'START=t', '|'],
      ['5/t', 'MKDIR', '$/a/b|'],
      ['0', 'MKDIR', '$/c/b/b|'],
      ['5/t', 'RM', '$/c|'],
      ['0', 'SET_QUOTA', '5|nodes|3|'],
      ['5/t', 'END', 'T|'],
    ],
    last: { c: '5> !EAGAIN', head: '5> !ENOSPC', oxenstored: '5> OK' },
  },
  {
    name: 'nodes of a target at the end of a transaction that changed permissions',
    rows: [
      ...guest(5),
      ...guest(6),
      ['0', 'SET_TARGET', '5|6|'],
      ['0', 'MKDIR', '$/of6|'],
      ['0', 'SET_PERMS', '$/of6|n6|'],
      ['0', 'MKDIR', '$/of5|'],
      ['0', 'SET_PERMS', '$/of5|n5|'],
      ['5', 'START=t', '|'],
      ['5/t', 'MKDIR', '$/of5/b|'],
      ['5/t', 'SET_PERMS', '$/of6|n6|r5|'],
      ['0', 'SET_QUOTA', '6|nodes|1|'],
      ['5/t', 'END', 'T|'],
    ],
    last: '5> OK',
  },
  {
    name: 'highest figures after a read in a transaction',
    rows: [
      ...guest(5),
      ['5', 'START=t', '|'],
      ['5/t', 'READ', '/tool|'],
      ['0', 'GET_PERMS', '/|'],
      ['0', 'CONTROL', 'quota|max|'],
    ],
  },
  {
    name: 'highest figures after a gift in a transaction',
    rows: [
      ...guest(5),
      ['0', 'WRITE', '$/a|'],
      ['0', 'START=t', '|'],
      ['0/t', 'SET_PERMS', '$/a|n5|'],
      ['0', 'CONTROL', 'quota|max|'],
    ],
  },
];

/** Where what a request meets has changed behind its back. */
export const STALE_GROUPS: readonly FixedGroup[] = [
  { name: 'transactions and children that changed', cases: CHILDREN },
  { name: 'transactions and owners that died', isolated: true, cases: OWNERS },
  { name: 'transactions that give nodes to domains that died', isolated: true, cases: GIFTS },
  { name: 'order of RELEASE', isolated: true, cases: RELEASES },
  { name: 'figures', isolated: true, cases: FIGURES },
];
