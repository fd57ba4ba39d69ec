import { expect, it } from 'vitest';
import { createAioContext } from '@virtlab/aio';
import { memoryRegion } from '@virtlab/guest-memory';
import { runReadmeExample } from '@virtlab/readme-example';
import { DeviceHost } from '@virtlab/virtio';
import { createMemoryTransport } from '@virtlab/virtio/memory';
import { createBlkDevice, createBlkDriver, createMemoryBackend } from './index.ts';

it('README: the usage works as it stands', async () => {
  using aio = createAioContext();
  const scope = {
    DeviceHost,
    aio,
    createBlkDevice,
    createBlkDriver,
    createMemoryBackend,
    createMemoryTransport,
    memoryRegion,
  };
  const { printed } = await runReadmeExample(new URL('../README.md', import.meta.url), { scope });
  expect(printed).toEqual([
    ['disk-1', 2048, 'hello'],
    [true, 8],
  ]);
  expect(aio.leaks()).toEqual([]);
});
