import { memoryRegion } from '@virtlab/guest-memory';
import { describe, expect, it } from 'vitest';
import { POSTED_BIT_COUNT, PostedBits } from './posted-bits.ts';

describe('PostedBits', () => {
  it('hands over every posted bit once, whatever its word', () => {
    const bits = new PostedBits(memoryRegion(new ArrayBuffer(128)), 64);
    const posted = [0, 1, 31, 32, 63, 200, POSTED_BIT_COUNT - 1];
    for (const bit of posted) bits.post(bit);
    bits.post(31);
    const taken: number[] = [];
    expect(bits.hasOutstanding()).toBe(true);
    expect(bits.drain((bit) => taken.push(bit))).toBe(posted.length);
    expect(taken).toEqual(posted);
    expect(bits.drain(() => {})).toBe(0);
  });

  it('keeps what is posted while it is drained', () => {
    const bits = new PostedBits(memoryRegion(new ArrayBuffer(64)), 0);
    bits.post(3);
    const taken: number[] = [];
    while (
      bits.drain((bit) => {
        taken.push(bit);
        if (taken.length < 3) bits.post(bit === 3 ? 2 : 9);
      }) > 0
    );
    expect(taken).toEqual([3, 2, 9]);
  });
});

/**
 * The poster's three steps against the taker's, all interleavings. The taker sleeps when it saw nothing outstanding after
 * it had set `notify_me`; the poster wakes it if it sees `notify_me`. Nothing may stay posted with the taker asleep.
 */
describe('posting and draining', () => {
  interface State {
    bit: number;
    outstanding: number;
    notifyMe: number;
    woken: boolean;
    asleep: boolean;
    taken: number;
  }
  type Step = (state: State) => void;
  const drain: Step[] = [
    (s) => (s.outstanding = 0),
    (s) => {
      s.taken += s.bit;
      s.bit = 0;
    },
  ];
  const sleep: Step[] = [(s) => (s.notifyMe = 1), (s) => (s.asleep = s.outstanding === 0)];

  function explore(poster: readonly Step[], taker: readonly Step[]): { runs: number; lost: number } {
    const found = { runs: 0, lost: 0 };
    const visit = (state: State, p: number, t: number): void => {
      if (p === poster.length && t === taker.length) {
        found.runs += 1;
        if (state.asleep && !state.woken && state.bit !== 0) found.lost += 1;
        return;
      }
      if (p < poster.length) {
        const next = { ...state };
        poster[p]!(next);
        visit(next, p + 1, t);
      }
      if (t < taker.length) {
        const next = { ...state };
        taker[t]!(next);
        visit(next, p, t + 1);
      }
    };
    visit({ bit: 0, outstanding: 0, notifyMe: 0, woken: false, asleep: false, taken: 0 }, 0, 0);
    return found;
  }

  const setBit: Step = (s) => (s.bit = 1);
  const setOutstanding: Step = (s) => (s.outstanding = 1);
  const wake: Step = (s) => (s.woken = s.notifyMe === 1);

  it('loses no bit in any interleaving', () => {
    expect(explore([setBit, setOutstanding, wake], [...drain, ...sleep])).toEqual({ runs: 35, lost: 0 });
  });

  it('would lose bits if the outstanding word were set first (planted)', () => {
    expect(explore([setOutstanding, setBit, wake], [...drain, ...sleep]).lost).toBeGreaterThan(0);
  });
});
