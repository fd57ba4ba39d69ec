import { describe, expect, it } from 'vitest';
import { RefusalReasons } from './refusal-reasons.ts';

describe('reasons that come beside what they belong to', () => {
  it('earlier or later, each is given once and in order', async () => {
    const reasons = new RefusalReasons();
    reasons.tell('first');
    reasons.tell('second');
    expect(await reasons.next()).toBe('first');
    expect(await reasons.next()).toBe('second');
    const awaited = [reasons.next(), reasons.next()];
    reasons.tell('third');
    reasons.tell('fourth');
    expect(await Promise.all(awaited)).toEqual(['third', 'fourth']);
  });

  it('of a session that ended nobody waits for one', async () => {
    const reasons = new RefusalReasons();
    reasons.tell('told');
    const told = reasons.next();
    const awaited = reasons.next();
    reasons.end();
    reasons.tell('too late');
    expect(await Promise.all([told, awaited, reasons.next()])).toEqual(['told', undefined, undefined]);
  });
});
