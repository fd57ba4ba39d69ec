import { runReadmeExample } from '@virtlab/readme-example';
import { expect, it } from 'vitest';
import { VRING_DESC_F_WRITE } from './virtio-ring.ts';

it('README: the usage example runs and gives what it says', async () => {
  const { result } = await runReadmeExample(new URL('../README.md', import.meta.url), {
    load: (name) => import(name),
    result: '{ modern, max_nr_frames, flags }',
  });
  expect(result).toEqual({ modern: true, max_nr_frames: 64, flags: VRING_DESC_F_WRITE });
});
