import { runReadmeExample } from '@virtlab/readme-example';
import { expect, it } from 'vitest';

it('README: the usage example runs and gives what it says', async () => {
  const { result } = await runReadmeExample(new URL('../README.md', import.meta.url), {
    load: (name) => import(name),
    result: '{ kick, call, token, answer }',
  });
  expect(result).toEqual({ kick: true, call: true, token: 42, answer: [0xfe, 0xfd, 0xfc, 0xfb] });
});
