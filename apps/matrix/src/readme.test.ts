import { readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { expect, it } from 'vitest';
import { RINGS } from './grid.ts';
import { runCell } from './in-process.ts';

it('README: the usage example runs', async () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const [, example] = /```ts\n([^]*?)```/.exec(readme)!;
  const body = stripTypeScriptTypes(example!).replace(/^import .*$/gm, '');
  const log: unknown[] = [];
  // oxlint-disable-next-line no-implied-eval, typescript/no-implied-eval
  const run = new Function('RINGS', 'runCell', 'console', `return (async () => {${body}})()`) as (
    ...args: unknown[]
  ) => Promise<void>;
  await run(RINGS, runCell, { log: (value: unknown) => log.push(value) });
  expect(log).toEqual(['ok']);
});
