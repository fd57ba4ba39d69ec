import { describe, expect, it } from 'vitest';
import { SPIN_AGAIN, SPIN_FOUND, SPIN_SLEEP } from '../loop-platform.ts';
import { AdaptiveSpin } from './adaptive-spin.ts';

/** A clock that a poll moves on. */
function world(options: ConstructorParameters<typeof AdaptiveSpin>[1] = {}) {
  const clock = { ms: 1000 };
  const spin = new AdaptiveSpin(() => clock.ms, options);
  const idleFor = (ns: number): void => {
    const end = clock.ms + ns / 1e6;
    const poll = (): boolean => {
      clock.ms += 0.0005;
      return clock.ms >= end;
    };
    while (spin.idle(poll, Infinity) === SPIN_AGAIN);
    clock.ms = Math.max(clock.ms, end);
    spin.resumed();
  };
  return { clock, spin, idleFor };
}

describe('AdaptiveSpin', () => {
  it('starts with no window, grows from the start value, and stops at the maximum', () => {
    const { spin, idleFor } = world({ maxNs: 50_000, startNs: 4000, wakeNs: 60_000 });
    const windows = [];
    for (let i = 0; i < 6; i++) {
      windows.push(Math.round(spin.windowNs));
      idleFor(100_000);
    }
    expect(windows).toEqual([0, 4000, 8000, 16_000, 32_000, 50_000]);
  });

  it('gives up for a while, each time longer, when even the longest window misses', () => {
    const { spin, idleFor } = world({ maxNs: 50_000 });
    const idleTimesUntilGrowth = (): number => {
      let count = 0;
      do {
        idleFor(100_000);
        count++;
      } while (spin.windowNs === 0);
      return count;
    };
    const reachMaximumAndMiss = (): void => {
      do idleFor(100_000);
      while (spin.windowNs > 0);
    };
    const pauses: number[] = [];
    for (let i = 0; i < 9; i++) {
      reachMaximumAndMiss();
      pauses.push(idleTimesUntilGrowth());
    }
    expect(pauses).toEqual([17, 33, 65, 129, 257, 513, 1025, 1025, 1025]);
    idleFor(1000);
    reachMaximumAndMiss();
    expect(idleTimesUntilGrowth()).toBe(17);
  });

  it('keeps a window in which the work came', () => {
    const { spin, idleFor } = world();
    for (let i = 0; i < 3; i++) idleFor(100_000);
    const before = spin.windowNs;
    idleFor(before / 2);
    expect(spin.windowNs).toBe(before);
  });

  it('shrinks to none when work comes late', () => {
    const { spin, idleFor } = world();
    for (let i = 0; i < 4; i++) idleFor(100_000);
    expect(spin.windowNs).toBeGreaterThan(0);
    for (let i = 0; i < 10; i++) idleFor(5_000_000);
    expect(spin.windowNs).toBe(0);
  });

  it('never looks longer than the window and the deadline, in slices between which others run', () => {
    const { clock, spin } = world({ maxNs: 200_000, startNs: 200_000 });
    spin.idle(() => false, Infinity);
    clock.ms += 0.21;
    spin.resumed();
    const start = clock.ms;
    const poll = (): boolean => {
      clock.ms += 0.001;
      return false;
    };
    const results: number[] = [];
    do results.push(spin.idle(poll, Infinity));
    while (results.at(-1) === SPIN_AGAIN);
    expect(results.length).toBeGreaterThanOrEqual(3);
    expect(results.at(-1)).toBe(SPIN_SLEEP);
    expect(clock.ms - start).toBeLessThan(0.21);
    expect(spin.idle(poll, clock.ms - 1)).toBe(SPIN_SLEEP);
  });

  it('stops at the first work', () => {
    const { clock, spin, idleFor } = world();
    for (let i = 0; i < 5; i++) idleFor(100_000);
    let polls = 0;
    const result = spin.idle(() => {
      clock.ms += 0.0001;
      return ++polls === 5;
    }, Infinity);
    expect([result, polls]).toEqual([SPIN_FOUND, 5]);
  });

  /** Every poll takes 1 µs; a find at each fourth. */
  function busy(staysBusy: boolean, mayStay: (finds: number) => boolean) {
    const { clock, spin, idleFor } = world({ staysBusy });
    for (let i = 0; i < 6; i++) idleFor(100_000);
    const [start, counts] = [clock.ms, { polls: 0, finds: 0 }];
    const poll = (): boolean => {
      clock.ms += 0.001;
      counts.polls += 1;
      const isFind = counts.polls % 4 === 0;
      if (isFind) counts.finds += 1;
      return isFind;
    };
    const result = spin.idle(poll, Infinity, () => mayStay(counts.finds));
    return { result, ...counts, tookMs: clock.ms - start };
  }

  it('staysBusy looks on after a find, until the slice is over', () => {
    const { result, finds, tookMs } = busy(true, () => true);
    expect(result).toBe(SPIN_FOUND);
    expect(finds).toBeGreaterThan(10);
    expect(tookMs).toBeGreaterThanOrEqual(0.05);
    expect(tookMs).toBeLessThan(0.06);
  });

  it('staysBusy gives way when something else waits, and without it every find does', () => {
    expect(busy(true, (finds) => finds < 3)).toMatchObject({ result: SPIN_FOUND, finds: 3 });
    expect(busy(false, () => true)).toMatchObject({ result: SPIN_FOUND, finds: 1 });
  });

  it('maxNs 0 never polls', () => {
    const { spin } = world({ maxNs: 0 });
    expect(spin.idle(() => expect.unreachable(), Infinity)).toBe(SPIN_SLEEP);
    expect(() => new AdaptiveSpin(() => 0, { maxNs: -1 })).toThrow(RangeError);
  });
});
