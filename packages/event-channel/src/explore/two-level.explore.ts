import type { ExplorationCase } from '@virtlab/explorer';
import { maskPort, repostPending, unmaskPort } from '../two-level.ts';
import {
  clearAfterHandler,
  lowHalfOnly,
  maskBeforePending,
  pendingBeforeUnmask,
  pendingByPlainStore,
  selectBeforePending,
  upcallAfterSelector,
} from './two-level-bugs.explore.ts';
import {
  type Post,
  domain,
  exploration,
  post,
  realDispatch,
  sender,
  target,
} from './two-level-rig.explore.ts';

const unmask: Post = (port) => unmaskPort(target, port, 0);

/** What the hypervisor does when a domain died. */
const reposted = (shared: { awaitEnd(thread: string): boolean }): void => {
  if (shared.awaitEnd('mortal')) repostPending(target, 0);
};

const masking = (first: number) => () => ({
  sender: sender(3, first),
  domain: domain(realDispatch, (dispatch) => {
    maskPort(target, 3);
    dispatch();
    unmask(3);
  }),
});

export const explorations: readonly ExplorationCase[] = [
  {
    name: '2-level: two sends, dispatch',
    exploration: exploration(() => ({ sender: sender(3, 2), domain: domain() })),
    bugs: [
      {
        name: 'the selector is set before the pending bit',
        exploration: exploration(() => ({ sender: sender(3, 1, selectBeforePending), domain: domain() })),
      },
      {
        name: 'the upcall is lowered after the selector was taken',
        exploration: exploration(() => ({ sender: sender(3, 2), domain: domain(upcallAfterSelector) })),
      },
      {
        name: 'the pending bit is cleared after the handler',
        exploration: exploration(() => ({ sender: sender(3, 2), domain: domain(clearAfterHandler) })),
      },
      {
        name: 'only one half of a word is scanned',
        exploration: exploration(() => ({ sender: sender(40, 2), domain: domain(lowHalfOnly) })),
      },
    ],
  },
  {
    name: '2-level: the dispatch of the planted bugs, without one',
    exploration: exploration(() => ({ sender: sender(3, 2), domain: domain(lowHalfOnly) })),
    bugs: [],
  },
  {
    name: '2-level: two senders, one port, dispatch',
    exploration: exploration(() => ({ one: sender(3, 1), two: sender(3, 1), domain: domain() })),
    bugs: [],
  },
  {
    name: '2-level: two senders, one half of a word, dispatch',
    exploration: exploration(() => ({ one: sender(3, 1), two: sender(4, 1), domain: domain() })),
    bugs: [
      {
        name: 'the pending bit is set by a plain store',
        exploration: exploration(() => ({
          one: sender(3, 1, pendingByPlainStore),
          two: sender(4, 1, pendingByPlainStore),
          domain: domain(),
        })),
      },
    ],
  },
  {
    name: '2-level: two senders, one selector bit, dispatch',
    exploration: exploration(() => ({ one: sender(3, 2), two: sender(40, 1), domain: domain() })),
    bugs: [],
  },
  {
    name: '2-level: two senders, two selector bits, dispatch',
    exploration: exploration(() => ({ one: sender(3, 2), two: sender(70, 1), domain: domain() })),
    bugs: [],
  },
  {
    name: '2-level: the domain masks, dispatches, unmasks; two sends',
    exploration: exploration(masking(2)),
    bugs: [],
  },
  {
    name: '2-level: unmask by another, two sends, dispatch',
    exploration: exploration(() => ({ sender: sender(3, 2), unmask: () => unmask(3), domain: domain() }), {
      masked: [3],
    }),
    bugs: [
      {
        name: 'the mask is read before the pending bit is set',
        exploration: exploration(
          () => ({ sender: sender(3, 1, maskBeforePending), unmask: () => unmask(3), domain: domain() }),
          { masked: [3] },
        ),
      },
      {
        name: 'unmask looks for a pending event before it clears the mask',
        exploration: exploration(
          () => ({ sender: sender(3, 1), unmask: pendingBeforeUnmask, domain: domain() }),
          { masked: [3] },
        ),
      },
    ],
  },
  {
    name: '2-level: a sender is killed anywhere, another sends, the hypervisor reposts',
    exploration: exploration(
      () => ({ mortal: () => post(40), sender: sender(3, 1), hypervisor: reposted, domain: domain() }),
      { mortal: ['mortal'] },
    ),
    bugs: [
      {
        name: 'nothing is reposted',
        exploration: exploration(() => ({ mortal: () => post(40), sender: sender(3, 1), domain: domain() }), {
          mortal: ['mortal'],
        }),
      },
    ],
  },
];
