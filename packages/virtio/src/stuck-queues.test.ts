import { runReadmeExample } from '@virtlab/readme-example';
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const PAGE = new URL('../../../docs/stuck-queues.md', import.meta.url);

it('docs/stuck-queues.md: the pictures of a request that was popped and never pushed are as it says', async () => {
  const { printed, result } = await runReadmeExample(PAGE, {
    heading: '## Where the request is',
    load: (name) => import(name),
    result: '{ session, machine, aio }',
  });
  const [, text] = /^prints\n\n```text\n([^]*?)^```$/m.exec(readFileSync(PAGE, 'utf8'))!;
  expect(printed.map(([line]) => `${String(line)}\n`).join('')).toBe(text);
  const { session, machine, aio } = result as {
    session: { stop(): Promise<void> };
    machine: { close(): Promise<unknown> };
    aio: Disposable;
  };
  await session.stop();
  await machine.close();
  aio[Symbol.dispose]();
});
