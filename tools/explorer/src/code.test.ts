import { describe, expect, it } from 'vitest';
import {
  type Exploration,
  SharedMemory,
  ThreadLoop,
  type Threads,
  compareThreads,
  explore,
  formatFailure,
  rounds,
  runCase,
} from './index.ts';

const X = 0;
const Y = 1;

function memoryOfTwo(): SharedMemory {
  return new SharedMemory(16).name(4 * X, 'x').name(4 * Y, 'y');
}

/** Message passing by code: data by plain stores, the flag by `publish`. */
function passing(publish: (words: Int32Array) => void): Exploration {
  const memory = memoryOfTwo();
  const words = memory.region.i32;
  return {
    memory,
    threads: () => ({
      writer: () => {
        memory.region.u16[1] = 7;
        publish(words);
      },
      reader: (shared) => {
        if (Atomics.load(words, Y) === 1) shared.note('read', memory.region.u16[1]!);
        else shared.note('read', 7);
      },
    }),
    check: (end) => (end.note('read') === 7 ? undefined : `read ${end.note('read')}`),
  };
}

describe('code as it stands', () => {
  it('is explored over its plain and its atomic accesses, of any width', () => {
    for (const memoryModel of ['sc', 'tso'] as const) {
      expect(
        explore(
          passing((words) => void Atomics.store(words, Y, 1)),
          memoryModel,
        ),
      ).toMatchObject({
        failure: undefined,
        isComplete: true,
        endCount: 1,
      });
    }
  });

  it('a plain store and a load of something else change places under tso only', () => {
    const memory = memoryOfTwo();
    const words = memory.region.i32;
    const exploration: Exploration = {
      memory,
      threads: () => ({
        one: (shared) => {
          words[X] = 1;
          shared.note('a', Atomics.load(words, Y));
        },
        two: (shared) => {
          words[Y] = 1;
          shared.note('b', Atomics.load(words, X));
        },
      }),
      check: (end) => (end.note('a') + end.note('b') > 0 ? undefined : 'both read 0'),
    };
    expect(explore(exploration, 'sc').failure).toBeUndefined();
    const { failure } = explore(exploration, 'tso');
    expect(formatFailure(failure!)).toContain('buffers x = 1');
    const planted = {
      ...exploration,
      threads: () => atomicStores(words),
      planted: { plainStores: ['x', 'y'] },
    };
    expect(explore({ ...planted, planted: {} }, 'tso').failure).toBeUndefined();
    expect(explore(planted, 'tso').failure).toBeDefined();
    expect(explore(planted, 'sc').failure).toBeUndefined();
  });

  it('a private object is made anew for each run, and memory is as it was', () => {
    const memory = memoryOfTwo();
    const words = memory.region.i32;
    const result = explore({
      memory,
      setup: () => void (words[Y] = 5),
      threads: () => {
        let calls = 0;
        words[X] = 3;
        return {
          one: () => {
            calls += 1;
            if (Atomics.add(words, X, calls) !== 3 || calls !== 1) throw new Error(`${calls} calls`);
          },
          two: () => void Atomics.load(words, Y),
        };
      },
      check: () => (words[X] === 4 && words[Y] === 5 ? undefined : `${words[X]} ${words[Y]}`),
    });
    expect(result.failure).toBeUndefined();
  });

  it('survives code that catches whatever is thrown', () => {
    const memory = memoryOfTwo();
    const words = memory.region.i32;
    const guarded = (): void => {
      try {
        Atomics.add(words, X, 1);
        Atomics.add(words, X, 1);
      } catch {
        Atomics.store(words, X, 99);
      }
    };
    const result = explore({
      memory,
      threads: { one: guarded, two: guarded },
      check: () => (words[X] === 4 ? undefined : `x is ${words[X]}`),
    });
    expect(result.failure).toBeUndefined();
  });

  it('tells an error of a thread, with how it came about', () => {
    const memory = memoryOfTwo();
    const words = memory.region.i32;
    const { failure } = explore({
      memory,
      threads: {
        one: () => void Atomics.store(words, X, 1),
        two: () => {
          if (Atomics.load(words, X) === 1) throw new RangeError('seen');
        },
      },
    });
    expect(failure!.message).toContain('two: RangeError: seen');
    expect(failure!.trace).toEqual([
      { thread: 'one', text: 'x = 1 (atomic)' },
      { thread: 'two', text: 'x is 1' },
    ]);
  });

  it.each([
    ['atomics on other memory', () => void Atomics.load(new Int32Array(1), 0), 'does not share'],
    ['a copy', () => void memoryOfTwo().region.i32.fill(1), 'not one step'],
    ['an element outside', (words: Int32Array) => void words[9], 'Element 9'],
  ])('refuses %s', (_what, access: (words: Int32Array) => void, message) => {
    const memory = memoryOfTwo();
    const { failure } = explore({ memory, threads: { one: () => access(memory.region.i32) } });
    expect(failure!.message).toContain(message);
  });

  it('leaves Atomics as it was', () => {
    const before = Atomics.load;
    explore(passing(() => {}));
    expect(Atomics.load).toBe(before);
  });
});

function atomicStores(words: Int32Array): Threads {
  return {
    one: (shared) => {
      Atomics.store(words, X, 1);
      shared.note('a', Atomics.load(words, Y));
    },
    two: (shared) => {
      Atomics.store(words, Y, 1);
      shared.note('b', Atomics.load(words, X));
    },
  };
}

describe('what threads can do beside', () => {
  it('being killed: before any access, after which stores still get to memory, and others notice', () => {
    const ends = new Set<string>();
    const result = explore(
      {
        words: { x: 0, y: 0 },
        threads: {
          mortal: (shared) => {
            shared.store('x', 1);
            shared.store('y', 1);
          },
          heir: (shared) => shared.note('killed', shared.awaitEnd('mortal') ? 1 : 0),
        },
        mortal: ['mortal'],
        check: (end) =>
          void ends.add(`${end.word('x')}${end.word('y')} ${end.note('killed')} ${end.killed.length}`),
      },
      'tso',
    );
    expect(result.failure).toBeUndefined();
    // Killed before the first store, between the two, or not; after the second there is nothing left to die in.
    expect([...ends].toSorted()).toEqual(['00 1 1', '10 1 1', '11 0 0']);
  });

  it('choosing, waiting and sleeping', () => {
    const ends = new Set<string>();
    explore({
      words: { bell: 0 },
      threads: {
        ringer: (shared) => {
          if (shared.choose(2) === 1) shared.atomicStore('bell', 1);
        },
        sleeper: (shared) => {
          shared.waitFor('bell');
          shared.sleep('bell');
          shared.sleep('bell');
        },
      },
      check: (end) => void ends.add(`${end.word('bell')} ${end.asleep.join()}`),
    });
    expect([...ends]).toEqual(['0 sleeper']);
  });

  it('an event loop wakes by its eventfd and runs tasks in order', () => {
    const memory = new SharedMemory(8).name(0, 'event').name(4, 'work');
    const result = explore({
      memory,
      threads: () => {
        const loop = new ThreadLoop(memory, 'event');
        const { kernel, eventFd } = loop;
        return {
          ringer: () => {
            Atomics.store(memory.region.i32, 1, 1);
            eventFd.write();
          },
          loop: (shared) =>
            loop.run(shared, () => {
              kernel.watchReadable(eventFd.fd, () => {
                if (eventFd.read()) kernel.schedule(() => shared.note('seen', shared.load('work')));
              });
            }),
        };
      },
      check: (end) => (end.note('seen') === 1 && end.asleep.join() === 'loop' ? undefined : 'not seen'),
    });
    expect(result.failure).toBeUndefined();
  });
});

describe('limits', () => {
  it('an exploration that is cut off says so and is a problem', () => {
    const exploration: Exploration = {
      words: { x: 0 },
      threads: { one: (shared) => shared.add('x', 1), two: (shared) => shared.add('x', 1) },
      stateLimit: 1,
    };
    expect(explore(exploration).isComplete).toBe(false);
    expect(runCase({ name: 'cut', exploration, bugs: [] }).problems).toEqual([
      expect.stringContaining('not complete'),
      expect.stringContaining('not complete'),
    ]);
  });

  it('a planted bug that is not found is a problem', () => {
    const exploration: Exploration = { words: { x: 0 }, threads: { one: (shared) => shared.store('x', 1) } };
    const outcome = runCase({ name: 'n', exploration, bugs: [{ name: 'none', exploration }] });
    expect(outcome.problems).toEqual(['n, sc: "none" is not found', 'n, tso: "none" is not found']);
    expect(outcome).toMatchObject({ bugsFound: 0, bugsPlanted: 2 });
  });

  it('histories that settle as one must do the same next', () => {
    const threads: Threads = {
      one: (shared) => {
        const way = shared.choose(2);
        shared.settled('the same');
        shared.store(way === 0 ? 'x' : 'y', 1);
      },
    };
    expect(() => explore({ words: { x: 0, y: 0 }, threads })).toThrow('does not always do the same');
  });

  it('a round without an access is refused', () => {
    expect(() => explore({ words: { x: 0 }, threads: { one: rounds(0, (_s, n) => n + 1) } })).toThrow(
      'has no access',
    );
  });
});

describe('compareThreads', () => {
  const memory = memoryOfTwo();
  const real: Exploration = {
    memory,
    threads: () => ({
      one: () => {
        memory.region.u8[12] = 1; // nameless: not of the model
        if (Atomics.load(memory.region.i32, X) === 0) Atomics.store(memory.region.i32, Y, 1);
      },
      two: () => void Atomics.store(memory.region.i32, X, 1),
    }),
  };
  const model = (value: number): Exploration => ({
    words: { x: 0, y: 0 },
    threads: {
      one: (shared) => {
        if (shared.atomicLoad('x') === 0) shared.atomicStore('y', value);
      },
    },
  });

  it('agrees over all histories of the code', () => {
    expect(compareThreads(real, 'one', model(1), 'one').difference).toBeUndefined();
  });

  it('shows where they part', () => {
    expect(compareThreads(real, 'one', model(2), 'one').difference).toBe(
      'atomicLoad x → 0\ncode:  atomicStore y 1\nmodel: atomicStore y 2',
    );
  });
});
