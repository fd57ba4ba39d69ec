import { describe, expect, it } from 'vitest';

/**
 * The doorbell protocol as a model: every interleaving of the steps of a receiver and its senders is
 * explored, also with the store buffers of real processors (a plain store becomes visible later; a
 * sequentially consistent one at once, after those before it). The question: can the receiver sleep for good
 * while a sender that has finished its ring left work?
 */
interface Variant {
  /** The store of `notify_me` is atomic (sequentially consistent). */
  readonly atomicNotifyMe: boolean;
  /** The store of the work is atomic. */
  readonly atomicWork: boolean;
  /** The receiver looks at the work once more after setting `notify_me`. */
  readonly recheck: boolean;
  /** The receiver sets `notify_me` before that look, not after it. */
  readonly setBeforeRecheck: boolean;
  /** The sender takes `notify_me` back when it is about to write to the descriptor. */
  readonly senderClears: boolean;
  /** Senders may die between any two steps. */
  readonly deaths: boolean;
  readonly ringsPerSender: number;
  readonly senders: number;
}

const CORRECT: Variant = {
  atomicNotifyMe: true,
  atomicWork: true,
  recheck: true,
  setBeforeRecheck: true,
  senderClears: false,
  deaths: true,
  ringsPerSender: 2,
  senders: 2,
};

interface Store {
  readonly word: string;
  readonly value: number;
}

interface Thread {
  /** The step to take next; 'done', 'dead', or for the receiver 'asleep'. */
  at: string;
  rings: number;
  buffer: Store[];
}

interface State {
  /** `notifyMe`, `event`, and `work<i>`: how many rings sender i has published. */
  memory: Record<string, number>;
  /** What the receiver has taken of each sender, and what each sender has finished ringing for. */
  taken: number[];
  finished: number[];
  threads: Thread[];
}

const RECEIVER = 0;

function start(variant: Variant): State {
  const senders = Array.from({ length: variant.senders }, () => ({ at: 'publish', rings: 0, buffer: [] }));
  const memory: Record<string, number> = { notifyMe: 0, event: 0 };
  senders.forEach((_, index) => (memory[`work${index + 1}`] = 0));
  const zeros = senders.map(() => 0);
  return {
    memory,
    taken: zeros,
    finished: [...zeros],
    threads: [{ at: 'poll', rings: 0, buffer: [] }, ...senders],
  };
}

function load(state: State, thread: Thread, word: string): number {
  return thread.buffer.findLast((buffered) => buffered.word === word)?.value ?? state.memory[word]!;
}

function store(state: State, thread: Thread, word: string, value: number, atomic: boolean): void {
  if (!atomic) {
    thread.buffer.push({ word, value });
    return;
  }
  for (const buffered of thread.buffer) state.memory[buffered.word] = buffered.value;
  thread.buffer = [];
  state.memory[word] = value;
}

/** Takes what is visible; whether there was anything. */
function takeWork(state: State, receiver: Thread): boolean {
  const seen = state.taken.map((_, index) => load(state, receiver, `work${index + 1}`));
  const found = seen.some((count, index) => count > state.taken[index]!);
  state.taken = seen;
  return found;
}

function stepReceiver(state: State, variant: Variant): void {
  const receiver = state.threads[RECEIVER]!;
  const firstAfterPoll = variant.setBeforeRecheck ? 'arm' : 'recheck';
  switch (receiver.at) {
    case 'poll':
      receiver.at = takeWork(state, receiver) ? 'poll' : firstAfterPoll;
      return;
    case 'arm':
      store(state, receiver, 'notifyMe', 1, variant.atomicNotifyMe);
      receiver.at = variant.setBeforeRecheck && variant.recheck ? 'recheck' : 'asleep';
      return;
    case 'recheck':
      if (takeWork(state, receiver)) receiver.at = 'disarm';
      else receiver.at = variant.setBeforeRecheck ? 'asleep' : 'arm';
      return;
    case 'asleep':
      // Only when the descriptor is readable; reading it is a system call, which orders everything.
      store(state, receiver, 'event', 0, true);
      receiver.at = 'disarm';
      return;
    default:
      store(state, receiver, 'notifyMe', 0, variant.atomicNotifyMe);
      receiver.at = 'poll';
  }
}

function stepSender(state: State, index: number, variant: Variant): void {
  const sender = state.threads[index]!;
  const finish = (): void => {
    sender.rings++;
    state.finished[index - 1] = sender.rings;
    sender.at = sender.rings === variant.ringsPerSender ? 'done' : 'publish';
  };
  switch (sender.at) {
    case 'publish':
      store(state, sender, `work${index}`, sender.rings + 1, variant.atomicWork);
      sender.at = 'look';
      return;
    case 'look':
      if (load(state, sender, 'notifyMe') === 0) finish();
      else sender.at = variant.senderClears ? 'clear' : 'write';
      return;
    case 'clear':
      store(state, sender, 'notifyMe', 0, true);
      sender.at = 'write';
      return;
    default:
      store(state, sender, 'event', 1, true);
      finish();
  }
}

function runnable(state: State, index: number): boolean {
  const { at } = state.threads[index]!;
  if (at === 'done' || at === 'dead') return false;
  return at !== 'asleep' || state.memory['event'] === 1;
}

/** Every state that one step of anything leads to. */
function successors(state: State, variant: Variant): State[] {
  const next: State[] = [];
  const add = (change: (copy: State) => void): void => {
    const copy = structuredClone(state);
    change(copy);
    next.push(copy);
  };
  state.threads.forEach((thread, index) => {
    if (thread.buffer.length > 0) {
      add((copy) => {
        const { word, value } = copy.threads[index]!.buffer.shift()!;
        copy.memory[word] = value;
      });
    }
    if (!runnable(state, index)) return;
    add((copy) => (index === RECEIVER ? stepReceiver(copy, variant) : stepSender(copy, index, variant)));
    if (variant.deaths && index !== RECEIVER) add((copy) => void (copy.threads[index]!.at = 'dead'));
  });
  return next;
}

/** How many states there are, and the first in which nothing can move and finished work was not taken. */
function explore(variant: Variant): { states: number; lost: State | undefined } {
  const seen = new Set<string>();
  const rest = [start(variant)];
  for (let state = rest.pop(); state !== undefined; state = rest.pop()) {
    const key = JSON.stringify(state);
    if (seen.has(key)) continue;
    seen.add(key);
    const next = successors(state, variant);
    if (next.length === 0 && state.finished.some((count, index) => count > state.taken[index]!)) {
      return { states: seen.size, lost: state };
    }
    rest.push(...next);
  }
  return { states: seen.size, lost: undefined };
}

describe('notify_me, all interleavings', () => {
  it('no wake-up is lost, however senders and receiver interleave and whoever dies', () => {
    const { states, lost } = explore(CORRECT);
    expect(lost).toBeUndefined();
    expect(states).toBeGreaterThan(2000);
  });

  it.each<[string, Partial<Variant>]>([
    ['the look after setting notify_me is left out', { recheck: false }],
    ['notify_me is set after the last look', { setBeforeRecheck: false }],
    ['the receiver sets notify_me with a plain store', { atomicNotifyMe: false }],
    ['the sender publishes its work with a plain store', { atomicWork: false }],
    ['a sender takes notify_me back and dies before it writes', { senderClears: true }],
  ])('finds the lost wake-up when %s', (_, change) => {
    const { lost } = explore({ ...CORRECT, ...change });
    expect(lost).toBeDefined();
    expect(lost!.threads[RECEIVER]!.at).toBe('asleep');
    expect(lost!.memory['event']).toBe(0);
  });

  it('the two planted bugs of order and memory need only one sender and one ring', () => {
    const small = { ...CORRECT, deaths: false, senders: 1, ringsPerSender: 1 };
    expect(explore(small).lost).toBeUndefined();
    for (const change of [{ recheck: false }, { atomicNotifyMe: false }, { atomicWork: false }]) {
      expect(explore({ ...small, ...change }).lost).toBeDefined();
    }
  });

  it('without deaths a sender that takes notify_me back loses nothing: the death is what matters', () => {
    expect(explore({ ...CORRECT, senderClears: true, deaths: false }).lost).toBeUndefined();
  });
});
