import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createLocalMachine } from './index.ts';

it('the usage in the README works as it stands there', async () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const code = /```ts\n(.*?)```/s.exec(readme)![1]!.replace(/^import .*$/gm, '');
  const log: unknown[] = [];
  const run = new Function('createLocalMachine', 'console', `return (async () => {${code}})()`) as (
    ...args: unknown[]
  ) => Promise<void>;
  await run(createLocalMachine, { log: (value: unknown) => log.push(value) });
  expect(log).toEqual([[expect.objectContaining({ name: 'dom0' }), expect.objectContaining({ name: 'domU', state: 'paused' })]]);
});
