import { readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { describe, expect, it } from 'vitest';
import { createAioContext } from '@virtlab/aio';
import { memoryRegion } from '@virtlab/guest-memory';
import { createBufferList } from '@virtlab/vring';
import { ProbeDevice } from './conformance/probe-device.ts';
import { DeviceHost, RING_FEATURES, initializeDevice } from './index.ts';
import { createMemoryTransport } from './memory.ts';

const README = readFileSync(new URL('../README.md', import.meta.url), 'utf8');

type AsyncCode = (...values: unknown[]) => Promise<unknown>;
const AsyncFunction = (async () => {}).constructor as new (...parts: string[]) => AsyncCode;

describe('README', () => {
  it('the usage works as it stands', async () => {
    const code = /```ts\n([^]*?)```/.exec(README)?.[1];
    const printed: unknown[] = [];
    const aio = createAioContext();
    const scope = {
      DeviceHost,
      RING_FEATURES,
      aio,
      createBufferList,
      createMemoryTransport,
      initializeDevice,
      memoryRegion,
      device: new ProbeDevice(),
      console: { log: (value: unknown) => printed.push(value) },
    };
    await new AsyncFunction(...Object.keys(scope), stripTypeScriptTypes(code!))(...Object.values(scope));
    expect(printed).toEqual(['hello']);
    expect(aio.leaks()).toEqual([]);
    aio[Symbol.dispose]();
  });
});
