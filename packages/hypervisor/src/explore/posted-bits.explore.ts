import { type Exploration, type ExplorationCase, SharedMemory } from '@virtlab/explorer';
import { PostedBits } from '../posted-bits.ts';

/**
 * Posters, and a taker that sleeps when it found nothing outstanding after it had set `notify_me`. The bits are the real ones;
 * the doorbell is the protocol of `@virtlab/aio`. A poster that finished must have been taken from, whoever else died.
 */
const NOTIFY_ME = 64;
const EVENT = 68;
const BITS = [3, 40] as const;

type Post = (bits: PostedBits, words: Int32Array, bit: number) => void;

const post: Post = (bits, _words, bit) => bits.post(bit);

const outstandingFirst: Post = (_bits, words, bit) => {
  Atomics.store(words, 8, 1);
  Atomics.or(words, bit >>> 5, 1 << (bit & 31));
};

interface Config {
  readonly post?: Post;
  readonly mortal?: readonly string[];
  /** Planted: whoever finds the outstanding word set does not ring, as VT-d posts. */
  readonly ringsOnce?: boolean;
  readonly planted?: Exploration['planted'];
}

function posting({ post: posts = post, mortal = [], ringsOnce = false, planted = {} }: Config): Exploration {
  const memory = new SharedMemory(72)
    .name(NOTIFY_ME, 'notifyMe')
    .name(EVENT, 'event')
    .name(32, 'outstanding');
  const words = memory.region.i32;
  const poster = (bit: number) => (): void => {
    const bits = new PostedBits(memory.region, 0);
    const isOutstanding = ringsOnce && bits.hasOutstanding();
    posts(bits, words, bit);
    if (!isOutstanding && Atomics.load(words, NOTIFY_ME / 4) !== 0) Atomics.store(words, EVENT / 4, 1);
  };
  return {
    memory,
    mortal,
    planted,
    threads: {
      one: (shared) => {
        poster(BITS[0])();
        shared.note(`posted ${BITS[0]}`, 1);
      },
      two: (shared) => {
        poster(BITS[1])();
        shared.note(`posted ${BITS[1]}`, 1);
      },
      taker: (shared) => {
        const bits = new PostedBits(memory.region, 0);
        const poll = (): boolean =>
          bits.hasOutstanding() && bits.drain((bit) => shared.note(`taken ${bit}`, 1)) > 0;
        for (;;) {
          Atomics.store(words, NOTIFY_ME / 4, 0);
          while (poll());
          Atomics.store(words, NOTIFY_ME / 4, 1);
          if (!poll()) shared.sleep('event');
        }
      },
    },
    check: (end) => {
      const lost = BITS.filter((bit) => end.note(`posted ${bit}`) > end.note(`taken ${bit}`));
      return lost.length === 0 ? undefined : `asleep, posted and not taken: ${lost.join()}`;
    },
  };
}

const mortal = ['one'];

export const explorations: readonly ExplorationCase[] = [
  {
    name: 'posted bits: two posters, a taker that sleeps',
    exploration: posting({}),
    bugs: [
      {
        name: 'the outstanding word is set before the bit',
        exploration: posting({ post: outstandingFirst }),
      },
      {
        name: 'the outstanding word is a plain store',
        exploration: posting({ planted: { plainStores: ['outstanding'] } }),
        foundUnder: ['tso'],
      },
    ],
  },
  {
    name: 'posted bits: a poster is killed anywhere',
    exploration: posting({ mortal }),
    bugs: [
      {
        name: 'only the poster that finds nothing outstanding rings',
        exploration: posting({ mortal, ringsOnce: true }),
      },
    ],
  },
];
