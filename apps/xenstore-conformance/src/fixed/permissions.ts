import {
  type FixedCase,
  type FixedGroup,
  type Row,
  create,
  destroy,
  guest,
  introduce,
} from './fixed-case.ts';

/** Every list of permissions with every kind of access, seen by the owner, one who is listed and one who is not. */
const LISTS = [
  'n0|',
  'r0|',
  'w0|',
  'b0|',
  'n5|',
  'n0|r5|',
  'n0|w5|',
  'n0|b5|',
  'b0|n5|',
  'n6|r5|',
  'r6|w5|',
  'n6|b5|r5|',
];

const access = (list: string): FixedCase => ({
  name: `what guest 5 may do with ${list.replaceAll('|', ' ').trim()}`,
  rows: [
    ['0', 'WRITE', '$/n/c|v'],
    ['0', 'SET_PERMS', `$/n|${list}`],
    ['5', 'WATCH', '$/n|w|'],
    ['5', 'READ', '$/n|'],
    ['5', 'DIRECTORY', '$/n|'],
    ['5', 'GET_PERMS', '$/n|'],
    ['5', 'READ', '$/n/c|'],
    ['5', 'READ', '$/n/none|'],
    ['5', 'READ', '$/n/none/none|'],
    ['5', 'WRITE', '$/n/none/none|'],
    ['5', 'MKDIR', '$/n/d|'],
    ['5', 'MKDIR', '$/n/c|'],
    ['0', 'GET_PERMS', '$/n/d|'],
    ['5', 'WRITE', '$/n|w'],
    ['5', 'RM', '$/n/c|'],
    ['5', 'RM', '$/n/missing|'],
    ['5', 'SET_PERMS', `$/n|${list}`],
    ['5', 'SET_PERMS', '$/n|n5|r6|'],
    ['5', 'RM', '$/n|'],
    ['0', 'WRITE', '$/n/z|'],
    ['0', 'RM', '$/n|'],
    ['5', 'UNWATCH', '$/n|w|'],
  ],
});

const inheritance: readonly Row[] = [
  ['0', 'WRITE', '$/p|'],
  ['0', 'SET_PERMS', '$/p|n0|b5|r6|'],
];

const OTHERS: readonly FixedCase[] = [
  {
    name: 'new nodes copy their parent’s list',
    rows: [
      ...inheritance,
      ['5', 'WRITE', '$/p/x/y|'],
      ['0', 'GET_PERMS', '$/p/x|'],
      ['0', 'GET_PERMS', '$/p/x/y|'],
      ['0', 'WRITE', '$/p/x/z|'],
      ['0', 'GET_PERMS', '$/p/x/z|'],
      ['6', 'READ', '$/p/x/y|'],
    ],
  },
  {
    name: 'first matching entry of a domain counts',
    rows: [
      ['0', 'WRITE', '$/p|v'],
      ['0', 'SET_PERMS', '$/p|n0|n5|r5|'],
      ['5', 'READ', '$/p|'],
      ['0', 'SET_PERMS', '$/p|n0|r5|n5|'],
      ['5', 'READ', '$/p|'],
    ],
  },
  {
    name: 'SET_PERMS fires for who could read before and for who can read now',
    rows: [
      ['0', 'WRITE', '$/p|v'],
      ['5', 'WATCH', '$/p|t|'],
      ['0', 'SET_PERMS', '$/p|n0|r5|'],
      ['0', 'SET_PERMS', '$/p|n0|'],
      ['0', 'WRITE', '$/p|w'],
      ['0', 'SET_PERMS', '$|n0|r5|'],
      ['0', 'WRITE', '$/p|x'],
      ['0', 'RM', '$/p|'],
      ['5', 'UNWATCH', '$/p|t|'],
    ],
  },
  {
    name: 'SET_PERMS in a transaction',
    rows: [
      ['0', 'WRITE', '$/p|v'],
      ['5', 'WATCH', '$/p|t|'],
      ['0', 'START=t', '|'],
      ['0/t', 'SET_PERMS', '$/p|n0|r5|'],
      ['5', 'READ', '$/p|'],
      ['0/t', 'GET_PERMS', '$/p|'],
      ['0/t', 'END', 'T|'],
      ['5', 'READ', '$/p|'],
      ['5', 'UNWATCH', '$/p|t|'],
    ],
  },
  {
    name: 'SET_TARGET gives the rights of the target',
    rows: [
      ['0', 'WRITE', '$/p|v'],
      ['0', 'SET_PERMS', '$/p|n6|'],
      ['5', 'READ', '$/p|'],
      ['0', 'SET_TARGET', '5|6|'],
      ['5', 'READ', '$/p|'],
      ['5', 'WRITE', '$/p/c|'],
      ['0', 'GET_PERMS', '$/p/c|'],
      ['5', 'SET_PERMS', '$/p|n6|r7|'],
      ['6', 'READ', '$/p/c|'],
      ['0', 'SET_TARGET', '5|5|'],
      ['5', 'READ', '$/p|'],
    ],
  },
  {
    name: 'special names for guests',
    rows: [
      ['5', 'WATCH', '@introduceDomain|in|'],
      ['5', 'WATCH', '@releaseDomain|out|'],
      ['5', 'WATCH', '@other|x|'],
      ...guest(40),
      destroy(40),
      ['0', 'SET_PERMS', '@introduceDomain|n0|r5|'],
      ['0', 'SET_PERMS', '@releaseDomain|n0|r5|'],
      ...guest(41),
      destroy(41),
      ['5', 'GET_PERMS', '@releaseDomain|'],
      ['5', 'SET_PERMS', '@releaseDomain|n5|'],
      ['0', 'SET_PERMS', '@introduceDomain|n0|'],
      ['0', 'SET_PERMS', '@releaseDomain|n0|'],
      ['5', 'RESET_WATCHES', '|'],
    ],
  },
  {
    name: 'entries of a domain that died do not serve its successor',
    rows: [
      ...guest(42),
      ['0', 'WRITE', '$/p|v'],
      ['0', 'SET_PERMS', '$/p|n0|r42|'],
      ['42', 'READ', '$/p|'],
      destroy(42),
      create(42),
      introduce(42),
      ['42', 'READ', '$/p|'],
      ['0', 'GET_PERMS', '$/p|'],
    ],
  },
  {
    name: 'nodes of a domain that died are gone, with what others have below',
    rows: [
      ...guest(43),
      ['0', 'WRITE', '$/p/q|v'],
      ['0', 'SET_PERMS', '$/p|n43|b5|'],
      ['5', 'WRITE', '$/p/of5|'],
      ['0b', 'WATCH', '$|t|'],
      destroy(43),
      ['0', 'DIRECTORY', '$|'],
    ],
  },
];

export const PERMISSION_GROUPS: readonly FixedGroup[] = [
  { name: 'permissions', before: [...guest(5), ...guest(6)], cases: [...LISTS.map(access), ...OTHERS] },
];
