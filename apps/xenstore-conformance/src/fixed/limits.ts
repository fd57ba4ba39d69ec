import { frame } from '../frame.ts';
import { operationNumber } from '../operations.ts';
import {
  type FixedCase,
  type FixedGroup,
  type Row,
  create,
  guest,
  introduce,
  pause,
  raw,
  resume,
} from './fixed-case.ts';

const times = (count: number, row: (index: number) => Row): Row[] =>
  Array.from({ length: count }, (_, index) => row(index));

/** An absolute path of exactly that many bytes below the case's home (14 bytes). */
const pathOf = (size: number, prefix = '$/'): string => {
  const fixed = prefix.replace('$', '/case/01234567').length;
  return prefix + 'p'.repeat(size - fixed);
};

const WRITABLE: readonly Row[] = [
  ['0', 'WRITE', '$|'],
  ['0', 'SET_PERMS', '$|n5|'],
];

const pathCases = (who: string): FixedCase[] => [
  ...[2046, 2047, 2048, 2049, 3071, 3072, 3073].map((size): FixedCase => ({
    name: `absolute path of ${size} bytes, domain ${who}`,
    rows: [
      ...WRITABLE,
      [who, 'WRITE', `${pathOf(size)}|v`],
      [who, 'READ', `${pathOf(size)}|`],
      [who, 'WATCH', `${pathOf(size)}|t|`],
    ],
  })),
  ...[2046, 2047, 2048, 2049, 3050].map((size): FixedCase => ({
    name: `relative path of ${size} bytes, domain ${who}`,
    rows: [
      ['0', 'WRITE', '/local/domain/5|'],
      ['0', 'SET_PERMS', '/local/domain/5|n5|'],
      [who, 'WRITE', `${'r'.repeat(size)}|v`],
      [who, 'READ', `${'r'.repeat(size)}|`],
      [who, 'RM', `${'r'.repeat(size)}|`],
    ],
  })),
  ...[2047, 2048, 2049].map((size): FixedCase => ({
    name: `path with ${size} bytes behind /local/domain/5/, domain ${who}`,
    rows: [
      ['0', 'WRITE', '/local/domain/5|'],
      ['0', 'SET_PERMS', '/local/domain/5|n5|'],
      [who, 'WRITE', `/local/domain/5/${'q'.repeat(size)}|v`],
      [who, 'RM', `/local/domain/5/${'q'.repeat(size)}|`],
    ],
  })),
];

const sizeCases = (who: string): FixedCase[] =>
  [1000, 1999, 2000, 2015, 2016, 2017, 2022, 2023, 2024, 2025, 2032, 2040, 2047, 2048, 2049, 4000].map(
    (size): FixedCase => ({
      name: `value of ${size} bytes, domain ${who}`,
      rows: [...WRITABLE, [who, 'WRITE', `$/v|${'x'.repeat(size)}`], [who, 'READ', '$/v|']],
    }),
  );

const SIZES: readonly FixedCase[] = [
  {
    name: 'payload of 4096 bytes',
    rows: [
      ['0', 'WRITE', `$/v|${'x'.repeat(4096 - 17)}`],
      ['0', 'READ', '$/v|'],
      ['0', 'DIRECTORY', '$|'],
    ],
  },
  {
    name: 'payload of 4096 bytes without any NUL',
    rows: [['0', 'READ', 'x'.repeat(4096)]],
  },
  {
    name: 'payload of 4097 bytes, then another connection',
    rows: [
      raw('0', frame(operationNumber('READ'), 'x'.repeat(4097), { reqId: 7 })),
      ['0b', 'READ', '/tool|'],
    ],
  },
  {
    name: 'header that claims 4 GiB',
    rows: [
      raw('0', frame(operationNumber('READ'), '', { reqId: 7, payloadSize: 0xffff_ffff })),
      ['0b', 'READ', '/tool|'],
    ],
  },
  {
    name: 'watch token of 2000 bytes',
    rows: [
      ['0', 'WATCH', `$|${'t'.repeat(2000)}|`],
      ['0', 'WRITE', '$|'],
    ],
  },
  {
    name: 'watch whose events are just too long',
    rows: [
      ['0', 'WATCH', `$|${'t'.repeat(4065)}|`],
      ['0', 'WRITE', '$/a|'],
      ['0', 'WRITE', `$/${'b'.repeat(100)}|`],
      ['0', 'UNWATCH', `$|${'t'.repeat(4065)}|`],
    ],
  },
  {
    name: 'children of a guest’s node until it is full',
    rows: [
      ...WRITABLE,
      ...times(24, (i) => ['5', 'WRITE', `$/${String(i).padStart(3, '0')}${'c'.repeat(90)}|`]),
      ['5', 'DIRECTORY', '$|'],
    ],
  },
  {
    name: 'permissions of a guest’s node',
    rows: [
      ...WRITABLE,
      ...[4, 5, 6].map((count): Row => [
        '5',
        'SET_PERMS',
        `$|n5|${times(count - 1, (i) => ['', 'READ', `r${i}|`])
          .map(([, , p]) => p)
          .join('')}`,
      ]),
      ['0', 'SET_PERMS', '$|n5|r1|r2|r3|r4|r6|r7|r8|'],
      ['5', 'GET_PERMS', '$|'],
    ],
  },
  ...sizeCases('0'),
  ...sizeCases('5'),
];

const QUOTAS: readonly FixedCase[] = [
  {
    name: 'watches of a guest',
    rows: [
      ...guest(5),
      ...times(132, (i) => ['5', 'WATCH', `/w${i}|t|`]),
      ['5', 'UNWATCH', '/w3|t|'],
      ['5', 'WATCH', '/again|t|'],
    ],
  },
  {
    name: 'transactions of a guest',
    rows: [
      ...guest(5),
      ...times(13, (i) => ['5', `START=t${i}`, '|']),
      ['5/t2', 'END', 'F|'],
      ['5', 'START=t20', '|'],
      ['5', 'START', '|'],
    ],
  },
  {
    name: 'nodes of a guest',
    rows: [
      ...guest(5),
      ...WRITABLE,
      ...times(40, (i) => ['5', 'MKDIR', `$/${i}|`]),
      ...times(975, (i) => ['5', 'WRITE', `$/${i % 39}/${i}|`]),
      ['5', 'RM', '$/3|'],
      ['5', 'WRITE', '$/3/x/y/z|'],
      ['5', 'DIRECTORY', '$|'],
    ],
  },
  {
    name: 'nodes of a guest, in a transaction',
    rows: [
      ...guest(5),
      ...WRITABLE,
      ['5', 'START=t', '|'],
      ...times(50, (i) => ['5/t', 'MKDIR', `$/${i}|`]),
      ...times(960, (i) => ['5/t', 'WRITE', `$/${i % 49}/${i}|`]),
      ['5/t', 'END', 'T|'],
      ['5', 'DIRECTORY', '$|'],
    ],
  },
  {
    name: 'nodes that one transaction touches',
    rows: [
      ...guest(5),
      ...WRITABLE,
      ...times(30, (i) => ['5', 'MKDIR', `$/${i}|`]),
      ['5', 'START=t', '|'],
      ...times(1030, (i) => ['5/t', 'READ', `$/${i % 30}/none-${i}|`]),
      ['5/t', 'END', 'T|'],
    ],
  },
  {
    name: 'requests whose events nobody takes',
    rows: [
      ...guest(5),
      ...guest(6),
      ...WRITABLE,
      ['0', 'SET_PERMS', '$|n5|r6|'],
      ['6', 'WATCH', `$|${'t'.repeat(900)}|`],
      pause('6'),
      ['5', 'WRITE', '$/0|'],
      ...Array.from({ length: 25 }, (_, i) =>
        raw('5', frame(operationNumber('WRITE'), `/case/none${i}\0`, { reqId: i + 1 })),
      ),
      ...Array.from({ length: 25 }, (_, i) =>
        raw('5', frame(operationNumber('WRITE'), `/local/domain/5/${i}\0`, { reqId: i + 100 })),
      ),
      resume('6'),
      ['5', 'READ', '$|'],
    ],
  },
  {
    name: 'own events that a guest does not take',
    rows: [
      ...guest(5),
      ['0', 'WRITE', '$|'],
      ['0', 'SET_PERMS', '$|n5|'],
      ['5', 'WATCH', `$|${'t'.repeat(400)}|`],
      pause('5'),
      ...times(12, (i) => ['0', 'WRITE', `$/${i}|`]),
      ...times(12, (i) => ['0', 'WRITE', `$/${i}|`]),
      resume('5'),
    ],
  },
  {
    name: 'quota set below what is used',
    rows: [
      ...guest(5),
      ...WRITABLE,
      ...times(8, (i) => ['5', 'WRITE', `$/${i}|`]),
      ['0', 'CONTROL', 'quota|set|nodes|6|'],
      ['5', 'WRITE', '$/9|'],
      ['5', 'WRITE', '$/1|x'],
      ['5', 'RM', '$/1|'],
      ['5', 'RM', '$/2|'],
      ['5', 'RM', '$/3|'],
      ['5', 'RM', '$/4|'],
      ['5', 'WRITE', '$/9|'],
      ['5', 'WRITE', '$/10|'],
      ['0', 'CONTROL', 'quota|'],
      ['0', 'CONTROL', 'quota|5|'],
    ],
  },
  {
    name: 'quota set of each name',
    rows: [
      ...guest(5),
      ...[
        'nodes',
        'watches',
        'transactions',
        'outstanding',
        'transaction-nodes',
        'memory',
        'node-size',
        'path-max',
        'permissions',
        'node-permissions',
      ].map((name): Row => ['0', 'CONTROL', `quota|set|${name}|7|`]),
      ['0', 'CONTROL', 'quota|'],
      ['0', 'CONTROL', 'quota-soft|set|memory|70000|'],
      ['0', 'CONTROL', 'quota-soft|'],
    ],
  },
  {
    name: 'node taken over by SET_PERMS counts for its new owner',
    rows: [
      ...guest(5),
      ...guest(6),
      ['0', 'WRITE', '$/a/b|'],
      ['0', 'SET_PERMS', '$/a|n5|'],
      ['0', 'CONTROL', 'quota|5|'],
      ['0', 'SET_PERMS', '$/a|n6|'],
      ['0', 'CONTROL', 'quota|5|'],
      ['0', 'CONTROL', 'quota|6|'],
    ],
  },
];

const INTRODUCE: readonly FixedCase[] = [
  {
    name: 'INTRODUCE of a domain that does not exist',
    rows: [introduce(30), ['0', 'IS_DOMAIN_INTRODUCED', '30|']],
  },
  {
    name: 'INTRODUCE with a wrong port',
    rows: [create(31), ['0', 'INTRODUCE', '31|1|200|'], ['0', 'IS_DOMAIN_INTRODUCED', '31|']],
  },
  {
    name: 'INTRODUCE again',
    rows: [
      ...guest(32),
      ['32', 'WATCH', '/a|t|'],
      introduce(32),
      ['0', 'WRITE', '/a|'],
      ['32', 'WATCH', '/a|t|'],
    ],
  },
  { name: 'INTRODUCE from a guest', rows: [create(33), ['5', 'INTRODUCE', '33|1|1|']] },
];

/** Sizes, quotas and the edges of both. */
export const LIMIT_GROUPS: readonly FixedGroup[] = [
  { name: 'lengths of paths', before: guest(5), cases: [...pathCases('0'), ...pathCases('5')] },
  { name: 'sizes', before: guest(5), cases: SIZES },
  { name: 'quotas', isolated: true, cases: QUOTAS },
  { name: 'introducing', before: guest(5), cases: INTRODUCE },
];
