import { frame } from '../frame.ts';
import { operationNumber } from '../operations.ts';
import {
  type FixedCase,
  type FixedGroup,
  type Row,
  create,
  destroy,
  destroyAtOnce,
  guest,
  introduce,
  raw,
  reconnect,
  shutdown,
} from './fixed-case.ts';

const read = (path: string, reqId: number): string => frame(operationNumber('READ'), `${path}\0`, { reqId });

const FRAMING: readonly FixedCase[] = [
  {
    name: 'request in fragments on a socket',
    rows: [
      raw('0', read('/tool', 1).slice(0, 3)),
      raw('0', read('/tool', 1).slice(3, 18)),
      raw('0', read('/tool', 1).slice(18)),
      ['0', 'READ', '/tool|'],
    ],
  },
  {
    name: 'many requests at once on a socket',
    rows: [raw('0', read('/tool', 1) + read('/none', 2) + read('/tool', 3))],
  },
  {
    name: 'many requests at once on a ring',
    rows: [raw('5', read('/tool', 1) + read('/none', 2) + read('/tool', 3)), ['5', 'READ', '/tool|']],
  },
  {
    name: 'request in fragments on a ring',
    rows: [
      raw('5', read('/tool', 1).slice(0, 3)),
      raw('5', read('/tool', 1).slice(3)),
      ['5', 'READ', '/tool|'],
    ],
  },
  {
    name: 'socket that dies in the middle of a request',
    rows: [raw('0', read('/tool', 1).slice(0, 18)), { kind: 'close', on: '0' }, ['0b', 'READ', '/tool|']],
  },
  {
    name: 'payload of 4096 bytes through a ring',
    rows: [
      ['0', 'WRITE', '$|'],
      ['0', 'SET_PERMS', '$|b0|'],
      ['5', 'WRITE', `$|${'x'.repeat(4000)}`],
      ['0', 'WRITE', `$|${'y'.repeat(2000)}`],
      ['5', 'READ', '$|'],
    ],
  },
];

/** Without the node that domain 6 makes, the transaction would be answered the same again. */
const CONFLICT_WITH_6: readonly Row[] = [
  ['0', 'MKDIR', '/of6|'],
  ['0', 'SET_PERMS', '/of6|n6|'],
  ['0', 'MKDIR', '/shared|'],
  ['0', 'SET_PERMS', '/shared|b0|'],
  ['0', 'START=t', '|'],
  ['0/t', 'RM', '/shared/a/b|'],
  ['0/t', 'WRITE', '/mine|'],
  ['6', 'WRITE', '/shared/a/b/c|'],
  ['0/t', 'END', 'T|'],
];

const RINGS: readonly FixedCase[] = [
  {
    name: 'payload of 4097 bytes on a ring',
    rows: [
      ...guest(6),
      raw('6', frame(operationNumber('READ'), 'x'.repeat(4097), { reqId: 7 })),
      ['0', 'IS_DOMAIN_INTRODUCED', '6|'],
      ['0', 'READ', '/tool|'],
    ],
  },
  {
    name: 'ring that broke the protocol, introduced again',
    rows: [
      ...guest(6),
      raw('6', frame(operationNumber('READ'), 'x'.repeat(4097), { reqId: 7 })),
      introduce(6),
      ['6', 'GET_DOMAIN_PATH', '6|'],
      ['0', 'RELEASE', '6|'],
      introduce(6),
      ['6', 'GET_DOMAIN_PATH', '6|'],
    ],
  },
  {
    name: 'reconnection of a ring',
    rows: [
      ...guest(6),
      ['6', 'WATCH', '/w|t|'],
      ['6', 'START=t', '|'],
      reconnect('6'),
      ['6', 'GET_DOMAIN_PATH', '6|'],
      ['6', 'WATCH', '/w|t|'],
      ['6/t', 'END', 'T|'],
    ],
  },
  {
    name: 'RELEASE, then INTRODUCE',
    rows: [
      ...guest(6),
      ['6', 'WATCH', '/w|t|'],
      ['0', 'RELEASE', '6|'],
      ['0', 'IS_DOMAIN_INTRODUCED', '6|'],
      introduce(6),
      ['6', 'WATCH', '/w|t|'],
      ['0', 'IS_DOMAIN_INTRODUCED', '6|'],
    ],
  },
  {
    name: 'shutdown, RESUME, destruction',
    rows: [
      ['0', 'WATCH', '@releaseDomain|out|'],
      ...guest(6),
      shutdown(6),
      ['6', 'GET_DOMAIN_PATH', '6|'],
      ['0', 'IS_DOMAIN_INTRODUCED', '6|'],
      ['0', 'RESUME', '6|'],
      destroy(6),
      ['0', 'IS_DOMAIN_INTRODUCED', '6|'],
      ['0', 'RESUME', '6|'],
      ['0', 'RELEASE', '6|'],
    ],
  },
  {
    name: 'shutdown of a domain that was never introduced, while another is down',
    rows: [['0', 'WATCH', '@releaseDomain|out|'], create(7), ...guest(6), shutdown(6), shutdown(7)],
  },
  {
    name: 'destruction of a domain that was never introduced, while another is down after RESUME',
    rows: [
      ['0', 'WATCH', '@releaseDomain|out|'],
      create(7),
      ...guest(6),
      shutdown(6),
      ['0', 'RESUME', '6|'],
      destroy(7),
    ],
  },
  {
    name: 'shutdown, RELEASE, end of another',
    rows: [
      ['0', 'WATCH', '@releaseDomain|out|'],
      ...guest(6),
      ...guest(7),
      shutdown(6),
      ['0', 'RELEASE', '6|'],
      shutdown(7),
      destroy(7),
    ],
  },
  {
    name: 'destruction of a domain that was never introduced',
    rows: [
      ['0', 'WATCH', '@releaseDomain|out|'],
      create(6),
      ['0', 'WRITE', '/of6|'],
      ['0', 'SET_PERMS', '/of6|n6|'],
      destroy(6),
      ['0', 'GET_PERMS', '/of6|'],
    ],
  },
  {
    name: 'domain that dies with a transaction and watches',
    rows: [
      ...guest(6),
      ['0', 'WRITE', '/w|'],
      ['0', 'SET_PERMS', '/w|b0|'],
      ['6', 'WATCH', '/w|t|'],
      ['6', 'START=t', '|'],
      ['6/t', 'WRITE', '/w/x|'],
      destroy(6),
      ['0', 'DIRECTORY', '/w|'],
      ['0', 'WRITE', '/w|'],
      ...guest(6),
      ['6', 'START', '|'],
    ],
  },
  {
    name: 'SET_TARGET, then the target dies',
    rows: [
      ...guest(6),
      ...guest(7),
      ['0', 'WRITE', '/t|v'],
      ['0', 'SET_PERMS', '/t|n0|r7|'],
      ['0', 'SET_TARGET', '6|7|'],
      ['6', 'READ', '/t|'],
      destroy(7),
      ['6', 'READ', '/t|'],
      ['0', 'SET_TARGET', '6|7|'],
    ],
  },
  {
    name: 'the root belongs to a domain that is released',
    rows: [
      ...guest(6),
      ['0', 'WRITE', '/a/b/c|'],
      ['0', 'WRITE', '/d|'],
      ['0', 'WATCH', '/|root|'],
      ['0', 'WATCH', '/a|a|'],
      ['0', 'WATCH', '/a/b|b|'],
      ['0', 'WATCH', '/d|d|'],
      ['0', 'SET_PERMS', '/|n6|r6|'],
      ['0', 'RELEASE', '6|'],
      ['0', 'DIRECTORY', '/|'],
      ['0', 'GET_PERMS', '/|'],
      ['0', 'DIRECTORY', '/a|'],
    ],
  },
  {
    name: 'a special name belongs to a domain that dies',
    rows: [
      create(6),
      ['0', 'SET_PERMS', '@releaseDomain|n6|r0|'],
      destroy(6),
      ['0', 'GET_PERMS', '@releaseDomain|'],
      ['0', 'DIRECTORY', '/|'],
    ],
  },
  {
    name: 'domain of which another has the rights dies and comes back',
    rows: [...guest(6), ...guest(7), ['0', 'SET_TARGET', '6|7|'], destroy(7), create(7), introduce(7)],
  },
  {
    name: 'domain that made a transaction fail dies at once',
    rows: [
      ...guest(6),
      ['0', 'WATCH', '@releaseDomain|out|'],
      ...CONFLICT_WITH_6,
      destroyAtOnce(6),
      ['0', 'DIRECTORY', '/of6|'],
    ],
  },
  {
    name: 'domain that made a transaction fail dies when that is forgiven',
    rows: [
      ...guest(6),
      ['0', 'WATCH', '@releaseDomain|out|'],
      ...CONFLICT_WITH_6,
      destroy(6),
      ['0', 'DIRECTORY', '/of6|'],
      ['0', 'READ', '/of6|'],
    ],
  },
  {
    name: 'domain that is its own target dies and comes back',
    rows: [...guest(6), ['0', 'SET_TARGET', '6|6|'], destroy(6), create(6), introduce(6)],
  },
  {
    name: 'features before INTRODUCE',
    rows: [
      create(6),
      ['0', 'GET_FEATURE', '6|'],
      ['0', 'SET_FEATURE', '6|0|'],
      introduce(6),
      ['0', 'GET_FEATURE', '6|'],
      ['0', 'SET_FEATURE', '6|1|'],
    ],
  },
  {
    name: 'quota of one domain',
    rows: [
      ...guest(6),
      ['0', 'GET_QUOTA', '|'],
      ['0', 'SET_QUOTA', '6|watches|2|'],
      ['0', 'GET_QUOTA', '6|watches|'],
      ['6', 'WATCH', '/a|1|'],
      ['6', 'WATCH', '/a|2|'],
      ['6', 'WATCH', '/a|3|'],
      ['6', 'GET_QUOTA', 'watches|'],
      ['6', 'GET_QUOTA', '6|watches|'],
      ['0', 'SET_QUOTA', 'watches|0|'],
      ['0', 'GET_QUOTA', 'watches|'],
      ['0', 'SET_QUOTA', 'watches|-1|'],
    ],
  },
];

/** Fragments, and what happens to domains' rings over their lives. */
export const RING_GROUPS: readonly FixedGroup[] = [
  { name: 'framing', before: guest(5), cases: FRAMING },
  { name: 'lives of domains', isolated: true, cases: RINGS },
];
