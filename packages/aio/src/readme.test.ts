import { runReadmeExampleAlone } from '@virtlab/readme-example';
import { expect, it } from 'vitest';

it('the example of the README runs as it stands', () => {
  const run = runReadmeExampleAlone(new URL('../README.md', import.meta.url));
  expect(run).toEqual({ status: 0, stdout: '', stderr: '' });
});
