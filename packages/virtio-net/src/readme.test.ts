import { expect, it } from 'vitest';
import { createAioContext } from '@virtlab/aio';
import { memoryRegion } from '@virtlab/guest-memory';
import { runReadmeExample } from '@virtlab/readme-example';
import { DeviceHost } from '@virtlab/virtio';
import { createMemoryTransport } from '@virtlab/virtio/memory';
import { createHostPort, createLearningSwitch, createNetDevice, createNetDriver } from './index.ts';

it('README: the usage works as it stands', async () => {
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
  };
  const { printed } = await runReadmeExample(new URL('../README.md', import.meta.url), { scope });
  expect(printed).toEqual([
    ['host sees', 28],
    ['anybody there?'],
    [expect.arrayContaining(['guest 1', 'guest 2'])],
  ]);
  expect(aio.leaks()).toEqual([]);
});
