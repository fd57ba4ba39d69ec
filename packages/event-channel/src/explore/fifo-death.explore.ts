import { type Exploration, type ExplorationCase, MEMORY_MODELS, campaignFactor } from '@virtlab/explorer';
import { leave } from '../fifo-post.ts';
import { repostFifo, takeOver } from '../fifo-recovery.ts';
import {
  HYPERVISOR,
  type MachineOptions,
  PORTS,
  area,
  completeAll,
  createMachine,
  domain,
  exploration,
  post,
  sender,
  target,
  words,
} from './fifo-rig.explore.ts';

/** The one who is killed, and a second who lives. */
const MORTAL = 5;
const LIVING = 6;
const VALID_PORTS = PORTS.length + 1;

interface Death {
  /** Ports that the mortal one sends on. */
  readonly mortal: readonly number[];
  /** Ports that the living one announces and sends on, at any time or when the hypervisor is done. */
  readonly living?: readonly number[];
  readonly livesOn?: readonly number[];
  /** The domain sleeps until all that is over. */
  readonly isQuiet?: boolean;
  readonly machine?: MachineOptions;
  readonly complete?: (dead: number) => void;
  readonly stateLimit?: number;
}

/** A sender is killed anywhere; the hypervisor completes what it left. */
function death({
  mortal,
  living = [],
  livesOn = [],
  isQuiet = false,
  machine = {},
  complete = completeAll,
  stateLimit = 1_000_000,
}: Death): Exploration {
  return exploration(
    () => {
      const { dispatch } = createMachine(machine);
      return {
        mortal: () => {
          for (const port of mortal) post(port, MORTAL);
        },
        living: () => {
          for (const port of living) sender(LIVING, port, 1)();
        },
        hypervisor: (shared) => {
          if (shared.awaitEnd('mortal')) complete(MORTAL);
          for (const port of livesOn) sender(LIVING, port, 1)();
        },
        domain: domain(
          dispatch,
          isQuiet
            ? (shared) => {
                shared.awaitEnd('hypervisor');
                shared.awaitEnd('living');
              }
            : undefined,
        ),
      };
    },
    { mortal: ['mortal'], stateLimit },
  );
}

const onlyReposts = (): void => repostFifo(target, area, VALID_PORTS);

const forgetsTheJournal = (dead: number): void => {
  if (takeOver(words, area, dead + 1, HYPERVISOR + 1)) leave(target, area, HYPERVISOR + 1, false);
  repostFifo(target, area, VALID_PORTS);
};

const doesNotRepost = (dead: number): void => {
  if (takeOver(words, area, dead + 1, HYPERVISOR + 1)) leave(target, area, HYPERVISOR + 1, true);
};

const isCampaign = campaignFactor() > 1;
const CAMPAIGN_STATES = 10_000_000;

export const explorations: readonly ExplorationCase[] = [
  {
    name: 'FIFO: a sender is killed anywhere, its port is sent on again, dispatch',
    exploration: death({ mortal: [1], livesOn: [1] }),
    bugs: [
      {
        name: 'nobody completes anything',
        exploration: death({ mortal: [1], livesOn: [1], complete: () => {} }),
      },
      {
        name: 'the lock is not taken over',
        exploration: death({ mortal: [1], livesOn: [1], complete: onlyReposts }),
      },
      {
        name: 'the journal is not read',
        exploration: death({ mortal: [1], livesOn: [1], complete: forgetsTheJournal }),
      },
    ],
  },
  {
    name: 'FIFO: a sender is killed anywhere, its queue begins anew with another port',
    exploration: death({ mortal: [1], livesOn: [2, 1] }),
    memoryModels: isCampaign ? MEMORY_MODELS : ['sc'],
    bugs: [],
  },
  {
    name: 'FIFO: a sender is killed anywhere, another port is on its queue and sent on again',
    exploration: death({ mortal: [1], livesOn: [2], machine: { posted: [2] } }),
    memoryModels: isCampaign ? MEMORY_MODELS : ['sc'],
    bugs: [
      {
        name: 'the journal is not read',
        exploration: death({
          mortal: [1],
          livesOn: [2],
          machine: { posted: [2] },
          complete: forgetsTheJournal,
        }),
      },
    ],
  },
  {
    name: 'FIFO: a sender that moves its port to another queue is killed anywhere',
    exploration: death({ mortal: [1], livesOn: [2], machine: { posted: [2, 1], moved: { 1: 0 } } }),
    memoryModels: isCampaign ? MEMORY_MODELS : ['sc'],
    bugs: [],
  },
  {
    name: 'FIFO: a sender is killed anywhere while another sends on its port, then dispatch',
    exploration: death({ mortal: [1], living: [1], isQuiet: true }),
    bugs: [
      {
        name: 'nothing is reposted',
        exploration: death({ mortal: [1], living: [1], isQuiet: true, complete: doesNotRepost }),
      },
    ],
  },
  ...(isCampaign
    ? [
        {
          name: 'FIFO: a sender is killed anywhere while another sends on its queue, then dispatch',
          exploration: death({ mortal: [1], living: [2], isQuiet: true }),
          bugs: [],
        },
        {
          name: 'FIFO: a sender is killed anywhere while another sends on its port and the domain runs',
          exploration: death({ mortal: [1], living: [1], stateLimit: CAMPAIGN_STATES }),
          bugs: [],
        },
        {
          name: 'FIFO: a sender is killed anywhere while another sends on its queue and the domain runs',
          exploration: death({ mortal: [1], living: [2], stateLimit: CAMPAIGN_STATES }),
          bugs: [],
        },
      ]
    : []),
];
