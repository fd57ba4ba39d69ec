import { expect, it } from 'vitest';
import { createAioContext } from '@virtlab/aio';
import { memoryRegion } from '@virtlab/guest-memory';
import { runReadmeExample } from '@virtlab/readme-example';
import { createBufferList } from '@virtlab/vring';
import { ProbeDevice } from './conformance/probe-device.ts';
import { DeviceHost, RING_FEATURES, initializeDevice } from './index.ts';
import { createMemoryTransport } from './memory.ts';

it('README: the usage works as it stands', async () => {
  using aio = createAioContext();
  const scope = {
    DeviceHost,
    RING_FEATURES,
    aio,
    createBufferList,
    createMemoryTransport,
    initializeDevice,
    memoryRegion,
    device: new ProbeDevice(),
  };
  const { printed } = await runReadmeExample(new URL('../README.md', import.meta.url), { scope });
  expect(printed).toEqual([['hello']]);
  expect(aio.leaks()).toEqual([]);
});
