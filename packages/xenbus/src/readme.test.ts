import { readFileSync } from 'node:fs';
import { domId } from '@virtlab/abi/brands';
import { XenbusState } from '@virtlab/abi/xenbus';
import { expect, it } from 'vitest';
import * as xenbus from './index.ts';
import { createTestStore, settle } from './testing.ts';

it('the snippet of the README runs', async () => {
  const { toolstack, frontend } = await createTestStore();
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
  const snippet = /```ts\n([^]*?)```/.exec(readme)?.[1] ?? '';
  const states: string[] = [];
  const scope = { ...xenbus, domId, XenbusState, toolstack, guest: frontend, states };
  // oxlint-disable-next-line typescript/no-implied-eval -- the point of this test
  const run = new Function(
    ...Object.keys(scope),
    `return (async () => { ${snippet}; return { front, back, flush }; })()`,
  );
  const { front, back, flush } = (await run(...Object.values(scope))) as {
    front: xenbus.XenbusDevice;
    back: xenbus.XenbusDevice;
    flush: number;
  };
  await settle();
  expect(flush).toBe(1);
  expect([front.state, back.state]).toEqual([XenbusState.Initialised, XenbusState.InitWait]);
  expect(states).toEqual(['InitWait', 'Unknown']);
});
