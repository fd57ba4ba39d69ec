import { readmeExample, runReadmeExample } from '@virtlab/readme-example';
import { expect, it } from 'vitest';

const README = new URL('../README.md', import.meta.url);

it('README: the example runs and does what its comment says', async () => {
  const said = /\/\/ seen: (.*)/.exec(readmeExample(README))![1]!.replaceAll("'", '"');
  const { result } = await runReadmeExample(README, { load: (name) => import(name), result: 'seen' });
  expect(result).toEqual(JSON.parse(said));
});
