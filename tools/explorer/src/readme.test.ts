import { runReadmeExample } from '@virtlab/readme-example';
import { expect, it } from 'vitest';
import * as explorer from './index.ts';

it('the example of the README finds the lost wake-up', async () => {
  const readme = new URL('../README.md', import.meta.url);
  const { result, printed } = await runReadmeExample(readme, {
    load: () => Promise.resolve(explorer),
    result: '{ right, wrong }',
  });
  expect(result).toMatchObject({
    right: { failure: undefined, isComplete: true },
    wrong: { failure: { message: expect.stringMatching(/^asleep with \d of 3 taken$/) } },
  });
  expect(printed[1]![0]).toContain('(buffer) work = ');
});
