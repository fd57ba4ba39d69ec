import { type ExplorationCase, campaignFactor } from '@virtlab/explorer';
import {
  headAfterReady,
  linkedWithoutLock,
  linkedWithoutTail,
  lookBeforeUnlink,
  pendingBeforeUnmask,
  releaseAtOnce,
} from './fifo-bugs.explore.ts';
import {
  type MachineOptions,
  createMachine,
  domain,
  exploration,
  sender,
  memory,
  area,
} from './fifo-rig.explore.ts';

const URGENT = 0;
/** Sends of the first of two senders. */
const COUNT = campaignFactor() > 1 ? 2 : 1;

const twoSenders =
  (
    first: number,
    second: number,
    count: number,
    options: MachineOptions = {},
    send?: typeof linkedWithoutLock,
  ) =>
  () => {
    const { dispatch } = createMachine(options);
    return { one: sender(5, first, count, send), two: sender(6, second, 1, send), domain: domain(dispatch) };
  };

const unmasking = (unmask: (machine: ReturnType<typeof createMachine>) => void) => () => {
  const machine = createMachine({ masked: [1] });
  return { sender: sender(5, 1, 2), unmask: () => unmask(machine), domain: domain(machine.dispatch) };
};

/** The hypervisor gives port 1 another priority while it is sent on; `posted` are on its old queue. */
const moving = (posted: readonly number[], sends: readonly number[]) => () => {
  const { dispatch } = createMachine({ posted });
  return {
    sender: () => {
      for (const port of sends) sender(5, port, 1)();
    },
    hypervisor: () => void Atomics.store(memory.region.u16, area.route + 1, URGENT),
    domain: domain(dispatch),
  };
};

export const explorations: readonly ExplorationCase[] = [
  {
    name: 'FIFO: three sends, dispatch',
    exploration: exploration(() => ({ sender: sender(5, 1, 3), domain: domain(createMachine().dispatch) })),
    bugs: [
      {
        name: 'the ready bit is set before the head is written',
        exploration: exploration(() => ({
          sender: sender(5, 1, 2, headAfterReady),
          domain: domain(createMachine().dispatch),
        })),
      },
      {
        name: 'the receiver looks for the event before it unlinks',
        exploration: exploration(() => ({
          sender: sender(5, 1, 2),
          domain: domain(lookBeforeUnlink(createMachine())),
        })),
      },
    ],
  },
  {
    name: 'FIFO: two senders, one port, dispatch',
    exploration: exploration(twoSenders(1, 1, 1)),
    bugs: [],
  },
  {
    name: 'FIFO: two senders, two ports of one queue, dispatch',
    exploration: exploration(twoSenders(1, 2, COUNT)),
    bugs: [
      {
        name: 'links are made without the lock',
        exploration: exploration(twoSenders(1, 2, COUNT, {}, linkedWithoutLock)),
      },
      {
        name: 'the head is written though the queue has a tail',
        exploration: exploration(twoSenders(1, 2, COUNT, {}, linkedWithoutTail)),
      },
      {
        name: 'the lock is given back without a look at what was left',
        exploration: exploration(twoSenders(1, 2, COUNT, {}, releaseAtOnce)),
      },
    ],
  },
  {
    name: 'FIFO: two senders, two priorities, dispatch',
    exploration: exploration(twoSenders(1, 2, COUNT, { priorities: { 2: URGENT } })),
    bugs: [],
  },
  {
    name: 'FIFO: the domain masks, dispatches, unmasks; two sends',
    exploration: exploration(() => {
      const { guest, dispatch } = createMachine();
      return {
        sender: sender(5, 1, 2),
        domain: domain(dispatch, () => {
          guest.mask(1);
          dispatch();
          guest.unmask(1);
        }),
      };
    }),
    bugs: [],
  },
  {
    name: 'FIFO: a masked predecessor is unmasked while it is linked to',
    exploration: exploration(() => {
      const { guest, dispatch } = createMachine({ posted: [1] });
      return {
        sender: sender(5, 2, 1),
        domain: domain(dispatch, () => {
          guest.mask(1);
          guest.unmask(1);
        }),
      };
    }),
    bugs: [],
  },
  {
    name: 'FIFO: unmask by another, two sends, dispatch',
    exploration: exploration(unmasking(({ guest }) => guest.unmask(1))),
    bugs: [
      {
        name: 'unmask looks for a pending event before it clears the mask',
        exploration: exploration(unmasking(() => pendingBeforeUnmask(1))),
      },
    ],
  },
  {
    name: 'FIFO: the priority changes between two sends',
    exploration: exploration(moving([], [1, 1])),
    bugs: [],
  },
  {
    name: 'FIFO: the priority of a port changes, others are on its old queue',
    exploration: exploration(moving([2, 1], [1, 3])),
    bugs: [],
  },
];
