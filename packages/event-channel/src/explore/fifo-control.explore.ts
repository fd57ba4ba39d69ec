import type { Exploration, ExplorationCase, Thread } from '@virtlab/explorer';
import { MASKED, eventWordIndex } from '../fifo-words.ts';
import { PendingScanner } from '../pending-scanner.ts';
import { postEvent } from '../post.ts';
import { upcallIndex } from '../two-level.ts';
import {
  FIRST_FRAME,
  type Machine,
  type Post,
  RECEIVER,
  addPage,
  area,
  createMachine,
  domain,
  exploration,
  memory,
  post,
  sender,
  target,
  words,
} from './fifo-rig.explore.ts';

/** The hypervisor changes what a domain has while others send to it. */

/** A sender that leaves its bit and does not look again whether the page has come. */
const looksOnce: Post = (port, id) => {
  if (eventWordIndex(words, area, port) >= 0) return post(port, id);
  Atomics.or(words, area.deferred, 1 << port);
};

function addingPage(send?: Post): Exploration {
  return exploration(() => {
    const { tables, dispatch } = createMachine({ state: 'without page' });
    return { sender: sender(5, 1, 1, send), hypervisor: () => addPage(tables), domain: domain(dispatch) };
  });
}

/** As `EventChannels` dispatches when it has begun to switch: what comes over the bitmaps is posted to the queues. */
function switching(toQueues: (machine: Machine, port: number) => void): Exploration {
  return exploration(() => {
    const machine = createMachine({ state: '2l' });
    const scanner = new PendingScanner(target, 0, (port) => {
      toQueues(machine, port);
      return false;
    });
    const dispatch = (): void => {
      if (Atomics.load(memory.region.u8, upcallIndex(target, 0)) !== 0) scanner.round();
      Atomics.store(memory.region.u8, upcallIndex(target, 0), 1);
      machine.dispatch();
    };
    return {
      sender: sender(5, 1, 1, (port, id) => void postEvent(target, port, id)),
      hypervisor: () => {
        machine.tables.initControl(RECEIVER, FIRST_FRAME, 0, 0);
        addPage(machine.tables);
      },
      domain: domain(dispatch),
    };
  });
}

/** A port is closed, and opened again by somebody else, under a sender who may be anywhere in his send. */
function closing(looks: (machine: Machine) => void): Exploration {
  const threads = (): Readonly<Record<string, Thread>> => {
    const machine = createMachine();
    return {
      old: () => post(1, 5),
      owner: (shared) => {
        machine.guest.mask(1);
        machine.tables.close(RECEIVER, 1 as never);
        machine.dispatch();
        // Now it belongs to somebody else, who announces.
        Atomics.add(words, memory.offsetOf('sent 1')! / 4, 1);
        post(1, 6);
        looks(machine);
        for (;;) {
          shared.sleep('doorbell');
          machine.dispatch();
        }
      },
    };
  };
  return exploration(threads);
}

const unmasksBlindly = (): void => void Atomics.and(words, eventWordIndex(words, area, 1), ~MASKED);

export const explorations: readonly ExplorationCase[] = [
  {
    name: 'FIFO: an event is sent while its page of the event array is added',
    exploration: addingPage(),
    bugs: [{ name: 'the sender does not look again', exploration: addingPage(looksOnce) }],
  },
  {
    name: 'FIFO: an event is sent while the domain switches to the FIFO ABI',
    exploration: switching(({ guest }, port) => guest.post(port)),
    bugs: [{ name: 'what comes over the bitmaps is dropped', exploration: switching(() => {}) }],
  },
  {
    name: 'FIFO: a port is closed under its sender and given to another',
    exploration: closing(({ guest }) => guest.unmask(1)),
    bugs: [
      { name: 'the mask is cleared with no look at what is pending', exploration: closing(unmasksBlindly) },
    ],
  },
];
