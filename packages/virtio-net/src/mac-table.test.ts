import { describe, expect, it } from 'vitest';
import { fc } from '@fast-check/vitest';
import { LEARNED, MacTable, TABLE_FULL } from './mac-table.ts';

const ALWAYS = Number.NEGATIVE_INFINITY;

function perform(
  table: MacTable,
  what: string,
  high: number,
  low: number,
  port: number,
  nowMs: number,
): number {
  if (what === 'learn') return table.learn(high, low, port, nowMs);
  if (what === 'expire') table.expire(nowMs - 10);
  else table.removePort(port);
  return LEARNED;
}

describe('MacTable', () => {
  it('does what a map does, whatever is learned, forgotten and removed', () => {
    const address = fc.record({ high: fc.nat(3), low: fc.nat(20) });
    const step = fc.record({
      what: fc.constantFrom('learn', 'learn', 'learn', 'expire', 'remove'),
      address,
      port: fc.nat(3),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), fc.integer({ min: 1, max: 12 }), (steps, sizeMax) => {
        const table = new MacTable(sizeMax, sizeMax);
        const model = new Map<string, { port: number; seenMs: number }>();
        steps.forEach(({ what, address: { high, low }, port }, nowMs) => {
          const key = `${high}/${low}`;
          const outcome = perform(table, what, high, low, port, nowMs);
          const fits = model.has(key) || model.size < sizeMax;
          expect(outcome).toBe(what === 'learn' && !fits ? TABLE_FULL : LEARNED);
          if (what === 'learn' && fits) model.set(key, { port, seenMs: nowMs });
          for (const [other, entry] of model) {
            const isForgotten = what === 'expire' ? entry.seenMs < nowMs - 10 : entry.port === port;
            if (what !== 'learn' && isForgotten) model.delete(other);
          }
          expect(table.count).toBe(model.size);
          const found = table
            .entries()
            .map((e) => [`${e.high}/${e.low}`, { port: e.port, seenMs: e.seenMs }]);
          expect(new Map(found as [string, { port: number; seenMs: number }][])).toEqual(model);
          expect(table.find(high, low, ALWAYS)).toBe(model.get(key)?.port ?? -1);
          for (let at = 0; at < 4; at += 1) {
            expect(table.countOf(at)).toBe([...model.values()].filter((entry) => entry.port === at).length);
          }
        });
      }),
    );
  });

  it('finds no address that was last seen too long ago', () => {
    const table = new MacTable(4, 4);
    table.learn(1, 2, 3, 100);
    expect([table.find(1, 2, 100), table.find(1, 2, 101)]).toEqual([3, -1]);
  });

  it("keeps a port to its share; another port's addresses find room, and may not move in either", () => {
    const table = new MacTable(8, 2);
    const outcomes = [1, 2, 3].map((low) => table.learn(0, low, 0, 0));
    expect(outcomes).toEqual([LEARNED, LEARNED, TABLE_FULL]);
    expect(table.learn(0, 9, 1, 0)).toBe(LEARNED);
    expect(table.learn(0, 9, 0, 0)).toBe(TABLE_FULL);
    expect(table.find(0, 9, 0)).toBe(1);
  });
});
