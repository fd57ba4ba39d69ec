import { type FixedCase, type FixedGroup, type Row, close, guest } from './fixed-case.ts';

const TREE: readonly Row[] = [
  ['0', 'WRITE', '$/a|1'],
  ['0', 'WRITE', '$/a/b|2'],
  ['0', 'WRITE', '$/a/b/c|3'],
  ['0', 'WRITE', '$/d|4'],
];

/** What is done inside a transaction while each of the others is done outside. */
const CHANGES: readonly (readonly [name: string, row: (who: string) => Row])[] = [
  ['reads a', (who) => [who, 'READ', '$/a|']],
  ['lists a', (who) => [who, 'DIRECTORY', '$/a|']],
  ['writes a', (who) => [who, 'WRITE', '$/a|new']],
  ['writes a/b', (who) => [who, 'WRITE', '$/a/b|new']],
  ['creates a/x', (who) => [who, 'WRITE', '$/a/x|']],
  ['creates a/y/z', (who) => [who, 'MKDIR', '$/a/y/z|']],
  ['removes a/b', (who) => [who, 'RM', '$/a/b|']],
  ['removes a', (who) => [who, 'RM', '$/a|']],
  ['removes a/none', (who) => [who, 'RM', '$/a/none|']],
  ['makes a, which exists', (who) => [who, 'MKDIR', '$/a|']],
  ['sets permissions of a', (who) => [who, 'SET_PERMS', '$/a|r0|']],
  ['writes the same value to a', (who) => [who, 'WRITE', '$/a|1']],
];

const conflicts: FixedCase[] = CHANGES.flatMap(([inside, insideRow]) =>
  CHANGES.filter(([name]) => name !== 'reads a' && name !== 'lists a').map(
    ([outside, outsideRow]): FixedCase => ({
      name: `${inside} inside, then ${outside} outside`,
      rows: [
        ...TREE,
        ['0b', 'WATCH', '$|t|'],
        ['0', 'START=t', '|'],
        insideRow('0/t'),
        outsideRow('0'),
        ['0/t', 'END', 'T|'],
        ['0', 'DIRECTORY', '$|'],
        ['0', 'READ', '$/a|'],
        ['0', 'DIRECTORY', '$/a|'],
      ],
    }),
  ),
);

const TRANSACTIONS: readonly FixedCase[] = [
  ...conflicts,
  {
    name: 'abandoned transaction leaves nothing',
    rows: [
      ...TREE,
      ['0b', 'WATCH', '$|t|'],
      ['0', 'START=t', '|'],
      ['0/t', 'RM', '$/a|'],
      ['0/t', 'READ', '$/a|'],
      ['0/t', 'END', 'F|'],
      ['0', 'READ', '$/a|'],
    ],
  },
  {
    name: 'create and remove in one transaction',
    rows: [
      ['0b', 'WATCH', '$|t|'],
      ['0', 'START=t', '|'],
      ['0/t', 'WRITE', '$/n/m|'],
      ['0/t', 'RM', '$/n|'],
      ['0/t', 'END', 'T|'],
    ],
  },
  {
    name: 'remove and create in one transaction',
    rows: [
      ...TREE,
      ['0b', 'WATCH', '$|t|'],
      ['0b', 'WATCH', '$/a/b|u|'],
      ['0', 'START=t', '|'],
      ['0/t', 'RM', '$/a|'],
      ['0/t', 'WRITE', '$/a/b|n'],
      ['0/t', 'END', 'T|'],
      ['0', 'DIRECTORY', '$/a/b|'],
      ['0', 'READ', '$/a|'],
    ],
  },
  {
    name: 'transaction of another connection',
    rows: [
      ['0', 'START=t', '|'],
      ['0b/t', 'READ', '/tool|'],
      ['0b', 'START=u', '|'],
      ['0b/u', 'END', 'F|'],
      ['0/t', 'END', 'F|'],
      ['0/t', 'END', 'F|'],
    ],
  },
  {
    name: 'ids go on and come back',
    rows: [
      ['0', 'START=t', '|'],
      ['0', 'START=u', '|'],
      ['0/t', 'END', 'T|'],
      ['0', 'START=v', '|'],
      ['0/#1', 'READ', '/tool|'],
      ['0/#2', 'READ', '/tool|'],
      ['0/#3', 'READ', '/tool|'],
      ['0/#4', 'READ', '/tool|'],
    ],
  },
  {
    name: 'wrong argument leaves the transaction open',
    rows: [
      ['0', 'START=t', '|'],
      ['0/t', 'END', 'X|'],
      ['0/t', 'END', '|'],
      ['0/t', 'END', 'TT|'],
      ['0/t', 'END', 't|'],
      ['0/t', 'READ', '/tool|'],
      ['0/t', 'END', 'T|'],
    ],
  },
  {
    name: 'transaction without any access',
    rows: [
      ['0', 'START=t', '|'],
      ['0b', 'WRITE', '$/a|'],
      ['0/t', 'END', 'T|'],
    ],
  },
  {
    name: 'RESET_WATCHES ends transactions, and may be in one',
    rows: [
      ['0', 'START=t', '|'],
      ['0/t', 'WRITE', '$/a|'],
      ['0/t', 'RESET_WATCHES', '|'],
      ['0/t', 'READ', '$/a|'],
      ['0', 'START=u', '|'],
      ['0', 'RESET_WATCHES', '|'],
      ['0/u', 'END', 'T|'],
    ],
  },
  {
    name: 'DIRECTORY_PART in a transaction',
    rows: [
      ...TREE,
      ['0', 'START=t', '|'],
      ['0/t', 'WRITE', '$/a/n|'],
      ['0/t', 'DIRECTORY_PART', '$/a|0|'],
      ['0', 'DIRECTORY_PART', '$/a|0|'],
      ['0/t', 'END', 'T|'],
    ],
  },
  {
    name: 'failures inside leave the transaction alive',
    rows: [
      ...TREE,
      ['0', 'START=t', '|'],
      ['0/t', 'READ', '$/none|'],
      ['0/t', 'WRITE', '$/bad/|'],
      ['0/t', 'RM', '$/n/n|'],
      ['0/t', 'SET_PERMS', '$/none|n0|'],
      ['0/t', 'WRITE', '$/e|'],
      ['0/t', 'END', 'T|'],
      ['0', 'READ', '$/e|'],
    ],
  },
];

/** Every change touches the root, so these are done again when they end, and only then compared. */
const ON_THE_ROOT: readonly FixedCase[] = [
  {
    name: 'READ of /, which others gave a child',
    rows: [
      ['0', 'START=t', '|'],
      ['0/t', 'WRITE', '/|'],
      ['0', 'WRITE', '/a|'],
      ['0/t', 'READ', '/|'],
      ['0/t', 'END', 'T|'],
      ['0', 'DIRECTORY', '/|'],
    ],
  },
  {
    name: 'READ of / before others gave it a child',
    rows: [
      ['0', 'START=t', '|'],
      ['0/t', 'READ', '/|'],
      ['0/t', 'WRITE', '/|'],
      ['0', 'WRITE', '/a|'],
      ['0/t', 'END', 'T|'],
      ['0', 'DIRECTORY', '/|'],
    ],
  },
  {
    name: 'DIRECTORY of /, which others gave a value',
    rows: [
      ['0', 'START=t', '|'],
      ['0/t', 'WRITE', '/a|'],
      ['0', 'WRITE', '/|1'],
      ['0/t', 'DIRECTORY', '/|'],
      ['0/t', 'END', 'T|'],
      ['0', 'READ', '/|'],
    ],
  },
  {
    name: 'DIRECTORY of /a, which others gave a value',
    rows: [
      ['0', 'WRITE', '/a|'],
      ['0', 'START=t', '|'],
      ['0/t', 'DIRECTORY', '/a|'],
      ['0/t', 'WRITE', '/|'],
      ['0', 'WRITE', '/a|2'],
      ['0/t', 'END', 'T|'],
      ['0', 'READ', '/a|'],
    ],
  },
  {
    name: 'GET_PERMS of /, which others gave a value and a child',
    rows: [
      ['0', 'START=t', '|'],
      ['0/t', 'GET_PERMS', '/|'],
      ['0/t', 'WRITE', '/|'],
      ['0', 'WRITE', '/a|'],
      ['0', 'WRITE', '/|1'],
      ['0/t', 'END', 'T|'],
      ['0', 'READ', '/|'],
    ],
  },
];

const WATCHES: readonly FixedCase[] = [
  {
    name: 'what fires a watch',
    rows: [
      ['0b', 'WATCH', '$/w|t|'],
      ['0', 'WRITE', '$/w|1'],
      ['0', 'WRITE', '$/w|1'],
      ['0', 'MKDIR', '$/w|'],
      ['0', 'WRITE', '$/w/a/b|'],
      ['0', 'MKDIR', '$/w/c/d|'],
      ['0', 'WRITE', '$/ww|'],
      ['0', 'SET_PERMS', '$/w/a|r0|'],
      ['0', 'RM', '$/w/a/none|'],
      ['0', 'RM', '$/w/a|'],
      ['0', 'RM', '$/w|'],
      ['0', 'WRITE', '$/w/x|'],
      ['0', 'RM', '$|'],
    ],
  },
  {
    name: 'nested watches of several connections',
    rows: [
      ...TREE,
      ['0b', 'WATCH', '$|all|'],
      ['0b', 'WATCH', '$/a/b|deep|'],
      ['0c', 'WATCH', '$/a|a|'],
      ['0c', 'WATCH', '$/a/b/c|c|'],
      ['0', 'WRITE', '$/a/b/c|x'],
      ['0', 'WRITE', '$/a/b|x'],
      ['0', 'RM', '$/a/b|'],
      ['0', 'RM', '$/a|'],
    ],
  },
  {
    name: 'root and / watches',
    rows: [
      ['0b', 'WATCH', '/|r|'],
      ['0', 'WRITE', '$/x|'],
      ['0', 'RM', '$/x|'],
      ['0b', 'UNWATCH', '/|r|'],
    ],
  },
  {
    name: 'relative watches',
    rows: [
      ['0b', 'WATCH', 'rel|r|'],
      ['0b', 'WATCH', '/local/domain/0/rel|a|'],
      ['0', 'WRITE', 'rel/x|'],
      ['0', 'WRITE', '/local/domain/0/rel|'],
      ['0b', 'UNWATCH', '/local/domain/0/rel|r|'],
      ['0b', 'UNWATCH', 'rel|r|'],
      ['0', 'RM', '/local/domain/0|'],
    ],
  },
  {
    name: 'relative watches and paths of a guest',
    rows: [
      ['0', 'WRITE', '/local/domain/5|'],
      ['0', 'SET_PERMS', '/local/domain/5|n5|'],
      ['5', 'WATCH', 'x|r|'],
      ['5', 'WRITE', 'x|1'],
      ['5', 'READ', 'x|'],
      ['0', 'WRITE', '/local/domain/5/x/y|1'],
      ['5', 'DIRECTORY', 'x|'],
      ['5', 'UNWATCH', 'x|r|'],
      ['0', 'RM', '/local/domain/5/x|'],
    ],
  },
  {
    name: 'UNWATCH, then silence',
    rows: [
      ['0b', 'WATCH', '$/w|t|'],
      ['0b', 'WATCH', '$/w|u|'],
      ['0b', 'UNWATCH', '$/w|t|'],
      ['0', 'WRITE', '$/w|'],
      ['0b', 'RESET_WATCHES', '|'],
      ['0', 'WRITE', '$/w|'],
    ],
  },
  {
    name: 'watches end with their connection',
    rows: [
      ['0b', 'WATCH', '$/w|t|'],
      close('0b'),
      ['0', 'WRITE', '$/w|'],
      ['0b', 'WATCH', '$/w|t|'],
      ['0', 'WRITE', '$/w|'],
    ],
  },
  {
    name: 'same path, many tokens, removed from the middle',
    rows: [
      ['0b', 'WATCH', '$/w|1|'],
      ['0b', 'WATCH', '$/w|2|'],
      ['0b', 'WATCH', '$/w|3|'],
      ['0b', 'UNWATCH', '$/w|2|'],
      ['0b', 'WATCH', '$/w|4|'],
      ['0', 'WRITE', '$/w|'],
    ],
  },
  {
    name: 'events of a commit come before its reply, in the order of access',
    rows: [
      ...TREE,
      ['0', 'WATCH', '$|t|'],
      ['0', 'WATCH', '$/d|d|'],
      ['0', 'START=t', '|'],
      ['0/t', 'WRITE', '$/d|'],
      ['0/t', 'RM', '$/a|'],
      ['0/t', 'WRITE', '$/new/er|'],
      ['0/t', 'SET_PERMS', '$/d|r0|'],
      ['0/t', 'END', 'T|'],
    ],
  },
  {
    name: 'depth of a watch',
    rows: [
      ['0b', 'WATCH', '$/w|zero|0|'],
      ['0b', 'WATCH', '$/w|one|1|'],
      ['0b', 'WATCH', '$/w|two|2|'],
      ['0', 'WRITE', '$/w|'],
      ['0', 'WRITE', '$/w/a|'],
      ['0', 'WRITE', '$/w/a/b|'],
      ['0', 'WRITE', '$/w/a/b/c|'],
      ['0', 'RM', '$/w|'],
      ['0b', 'UNWATCH', '$/w|one|'],
    ],
  },
  {
    name: 'depth of a special watch',
    rows: [
      ['0b', 'WATCH', '@introduceDomain|in|1|'],
      ['0b', 'WATCH', '@releaseDomain|out|1|'],
      ['0b', 'WATCH', '@releaseDomain/50|one|'],
      ...guest(50),
      ['0', 'RELEASE', '50|'],
    ],
  },
];

export const SESSION_GROUPS: readonly FixedGroup[] = [
  { name: 'transactions against changes', cases: TRANSACTIONS },
  { name: 'transactions on the root', isolated: true, cases: ON_THE_ROOT },
  { name: 'what watches hear', before: guest(5), cases: WATCHES },
];
