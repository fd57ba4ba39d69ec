import { runReadmeExample } from '@virtlab/readme-example';
import { expect, it } from 'vitest';
import type { VirtioDevice } from '@virtlab/virtio';
import { EchoDevice } from './testing/echo-device.ts';

it('README: the usage works as it stands', async () => {
  const { result } = await runReadmeExample(new URL('../README.md', import.meta.url), {
    load: (name) => import(name),
    result: 'plugAndUse',
  });
  const plugAndUse = result as (device: VirtioDevice) => Promise<string>;
  expect(await plugAndUse(new EchoDevice())).toBe('type 3, 2 queues, msix-per-queue');
});
