import { readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { expect, it } from 'vitest';
import { createLocalMachine } from './index.ts';

it('README: the usage example runs and gives what it says', async () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const [, example] = /```ts\n([^]*?)```/.exec(readme)!;
  const body = stripTypeScriptTypes(example!).replace(/^import .*$/gm, '');
  const log: unknown[] = [];
  // oxlint-disable-next-line no-implied-eval, typescript/no-implied-eval
  const run = new Function('createLocalMachine', 'console', `return (async () => {${body}})()`) as (
    ...args: unknown[]
  ) => Promise<void>;
  await run(createLocalMachine, { log: (value: unknown) => log.push(value) });
  const domU = expect.objectContaining({ name: 'domU', state: 'paused' }) as unknown;
  expect(log).toEqual([[expect.objectContaining({ name: 'dom0' }), domU]]);
});
