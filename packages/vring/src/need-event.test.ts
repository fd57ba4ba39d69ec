import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { packedNeedEvent, vringNeedEvent } from './need-event.ts';

describe('vringNeedEvent', () => {
  it('§2.7.7.2 MUST be true exactly when an entry with index event was published since', () => {
    const u16 = fc.integer({ min: 0, max: 0xffff });
    fc.assert(
      fc.property(
        u16,
        fc.integer({ min: 0, max: 300 }),
        fc.integer({ min: -4, max: 304 }),
        (old, count, ahead) => {
          const event = (old + ahead) & 0xffff;
          let crossed = false;
          for (let i = 0; i < count; i++) crossed ||= ((old + i) & 0xffff) === event;
          expect(vringNeedEvent(event, (old + count) & 0xffff, old)).toBe(crossed);
        },
      ),
    );
  });

  it('asks once for an event at every 16-bit index, the wrap included', () => {
    const wrong: number[] = [];
    for (let event = 0; event <= 0xffff; event++) {
      const next = (event + 1) & 0xffff;
      if (!vringNeedEvent(event, next, event) || vringNeedEvent(event, (next + 1) & 0xffff, next))
        wrong.push(event);
    }
    expect(wrong).toEqual([]);
  });

  it('covers windows up to 65535 entries', () => {
    expect(vringNeedEvent(7, 7, 8)).toBe(false);
    expect(vringNeedEvent(7, 6, 7)).toBe(true);
  });
});

describe('packed event test', () => {
  it('§2.8.10 MUST be true exactly when the slots since contain the event, on its lap, for every state of small rings', () => {
    for (const size of [1, 2, 3, 5]) {
      const lap = 2 * size;
      for (let position = 0; position < lap; position++) {
        for (let count = 1; count <= size; count++) {
          for (let event = 0; event < lap; event++) {
            const behind = (position - event - 1 + 2 * lap) % lap;
            const wanted = packedNeedEvent(
              event % size,
              event < size ? 1 : 0,
              position % size,
              position < size ? 1 : 0,
              count,
              size,
            );
            expect([size, position, count, event, wanted]).toEqual([
              size,
              position,
              count,
              event,
              behind < count,
            ]);
          }
        }
      }
    }
  });

  it('is true for events outside the ring and for more than a lap', () => {
    expect(packedNeedEvent(5, 1, 3, 1, 1, 5)).toBe(true);
    expect(packedNeedEvent(4, 1, 3, 1, 6, 5)).toBe(true);
  });
});
