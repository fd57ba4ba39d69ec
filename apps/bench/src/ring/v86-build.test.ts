import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { withoutLogging } from './v86-build.ts';

describe('v86 without its logging', () => {
  const published = readFileSync(fileURLToPath(import.meta.resolve('v86')), 'utf8');

  it('is the published text less five calls in the walk of a chain', () => {
    const text = withoutLogging(published);
    expect(published.length - text.length).toBeLessThan(80);
    expect(text).toMatch(/a\.get_descriptor\(c,b\);\s*if\(g&&h\.flags&4\)/);
  });

  it.each([
    ['has changed', published.replace('h.addr_high', 'h.addr_hi')],
    ['stands there twice', published + published],
    ['is gone', withoutLogging(published)],
  ])('is refused when the log line %s', (_how, text) => {
    expect(() => withoutLogging(text)).toThrow('log line');
  });
});
