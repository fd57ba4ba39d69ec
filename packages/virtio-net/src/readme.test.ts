import { readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { expect, it } from 'vitest';
import { createAioContext } from '@virtlab/aio';
import { memoryRegion } from '@virtlab/guest-memory';
import { DeviceHost } from '@virtlab/virtio';
import { createMemoryTransport } from '@virtlab/virtio/memory';
import { createHostPort, createLearningSwitch, createNetDevice, createNetDriver } from './index.ts';

const README = readFileSync(new URL('../README.md', import.meta.url), 'utf8');

type AsyncCode = (...values: unknown[]) => Promise<void>;
const AsyncFunction = (async () => {}).constructor as new (...parts: string[]) => AsyncCode;

it('README: the usage works as it stands', async () => {
  const code = stripTypeScriptTypes(/```ts\n([^]*?)```/.exec(README)![1]!);
  const printed: unknown[][] = [];
  using aio = createAioContext();
  const scope = {
    DeviceHost,
    aio,
    createHostPort,
    createLearningSwitch,
    createMemoryTransport,
    createNetDevice,
    createNetDriver,
    memoryRegion,
    console: { log: (...values: unknown[]) => printed.push(values) },
  };
  await new AsyncFunction(...Object.keys(scope), code)(...Object.values(scope));
  expect(printed).toEqual([
    ['host sees', 28],
    ['anybody there?'],
    [expect.arrayContaining(['guest 1', 'guest 2'])],
  ]);
  expect(aio.leaks()).toEqual([]);
});
